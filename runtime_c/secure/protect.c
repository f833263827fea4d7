/* Gives each world its memory. Armv8-M ARM (DDI 0553): SAU D1.2.221 ff.; Arm SIE-200 (DDI 0571): the
 * memory protection controller; ST RM0456: GTZC. */
#include "ts_secure.h"

enum { SAU_ENABLE = 1, SAU_CALLABLE = 2, SAU_GRANULE = 32 };

#define SAU_CTRL 0xE000EDD0u
#define SAU_RNR 0xE000EDD8u
#define SAU_RBAR 0xE000EDDCu
#define SAU_RLAR 0xE000EDE0u

#define MPC_CTRL 0x00u
#define MPC_BLOCK_CONFIG 0x14u
#define MPC_INDEX 0x18u
#define MPC_TABLE 0x1Cu
#define MPC_BUS_ERROR (1u << 4)
#define MPC_LOCK (1u << 31)

#define MPCBB_SECURE 0x100u

#define AIRCR 0xE000ED0Cu
#define AIRCR_KEY 0x05FA0000u
#define AIRCR_PRIS (1u << 14)         /* non-secure exceptions never outrank secure ones */
#define AIRCR_SYSRESETREQS (1u << 3)  /* only the secure world may reset */
#define DAUTHCTRL 0xE000EE04u
#define DAUTHCTRL_NO_SECURE_DEBUG 0x5u /* SPIDENSEL and SPNIDENSEL, with the enables at 0 */

static void set_sau(uint32_t number, const ts_sau_region *region)
{
    ts_write(SAU_RNR, number);
    ts_write(SAU_RBAR, region->range.start);
    ts_write(SAU_RLAR, (region->range.end - SAU_GRANULE) |
                           (region->callable ? (uint32_t)SAU_CALLABLE : 0u) | SAU_ENABLE);
}

/* A bit per block; a refused access is a bus error rather than a zero. */
static void set_mpc(const ts_mpc *mpc)
{
    const uint32_t shift = (ts_read_word(mpc->base + MPC_BLOCK_CONFIG) & 15u) + 5u;
    ts_write(mpc->base + MPC_CTRL, MPC_BUS_ERROR);
    for (uint32_t block = mpc->non_secure.start >> shift; block < mpc->non_secure.end >> shift;
         ++block) {
        ts_write(mpc->base + MPC_INDEX, block / 32u);
        const uint32_t word = ts_read_word(mpc->base + MPC_TABLE);
        ts_write(mpc->base + MPC_TABLE, word | (1u << (block % 32u)));
    }
}

void ts_protect(void)
{
    const ts_zone *const zone = &ts_trust_zone;
    for (uint32_t i = 0; i < zone->sau_count; ++i) { /* the veneers' region is the last */
        set_sau(i, &zone->sau[i]);
    }
    ts_write(SAU_CTRL, SAU_ENABLE);
    for (uint32_t i = 0; i < zone->register_count; ++i) {
        const ts_register *const r = &zone->registers[i];
        ts_write(r->address, ts_read_word(r->address) | r->set);
    }
    for (uint32_t i = 0; i < zone->mpc_count; ++i) {
        set_mpc(&zone->mpc[i]);
    }
    for (uint32_t i = 0; i < zone->mpcbb_count; ++i) {
        for (uint32_t word = 0; word < zone->mpcbb[i].words; ++word) {
            ts_write(zone->mpcbb[i].base + MPCBB_SECURE + 4u * word, zone->mpcbb[i].value);
        }
    }
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

void ts_lock(void)
{
    const ts_zone *const zone = &ts_trust_zone;
    for (uint32_t i = 0; i < zone->mpc_count; ++i) {
        ts_write(zone->mpc[i].base + MPC_CTRL, MPC_BUS_ERROR | MPC_LOCK);
    }
    /* BFHFNMINS stays 0: bus faults, hard faults and NMI are the secure world's. */
    ts_write(AIRCR, AIRCR_KEY | AIRCR_PRIS | AIRCR_SYSRESETREQS);
#ifndef TS_SECURE_DEBUG
    ts_write(DAUTHCTRL, DAUTHCTRL_NO_SECURE_DEBUG);
#endif
    for (uint32_t i = 0; i < zone->lock_count; ++i) {
        const ts_register *const r = &zone->locks[i];
        ts_write(r->address, ts_read_word(r->address) | r->set);
    }
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}
