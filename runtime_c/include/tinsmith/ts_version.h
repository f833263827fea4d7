/* The version of the interface between generated code and these files. Generated code refuses
 * to build against another one. */
#ifndef TS_VERSION_H
#define TS_VERSION_H

#define TS_RUNTIME_VERSION 1

#endif
