"""The commands behind the command line: what they print, and how they call the library."""
