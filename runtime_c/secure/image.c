/* Whether the non-secure image is the one that this secure image was made for. */
#include "gateway.h"
#include "sha256.h"

/* The build fills it in: an image without it starts nothing. */
__attribute__((section(".image_record"), used)) const volatile ts_image_record ts_non_secure_image = {
    .part_count = TS_IMAGE_PARTS + 1};

/* 0 where the part lies in the non-secure world's flash. */
static uint32_t outside(const volatile ts_range *part)
{
    const ts_range flash = ts_trust_zone.flash;
    return part->start < flash.start || part->end > flash.end || part->start > part->end;
}

/* Leaves `digest` as it is, all zeros, where the record makes no sense. */
static void take_digest(const volatile ts_image_record *record, uint8_t *digest)
{
    ts_sha256 hash;
    if (record->part_count == 0 || record->part_count > TS_IMAGE_PARTS ||
        record->parts[0].start != ts_trust_zone.flash.start) { /* the vectors */
        return;
    }
    ts_sha256_start(&hash);
    for (uint32_t i = 0; i < record->part_count; ++i) {
        const volatile ts_range *const part = &record->parts[i];
        if (outside(part)) {
            return;
        }
        ts_sha256_add(&hash, (const uint8_t *)(uintptr_t)part->start, part->end - part->start);
    }
    ts_sha256_finish(&hash, digest);
}

uint32_t ts_image_by_difference(uint8_t *digest)
{
    const volatile ts_image_record *const record = &ts_non_secure_image;
    uint32_t difference = 0, compared = 0;
    take_digest(record, digest);
    for (uint32_t i = 0; i < TS_DIGEST_BYTES; ++i) {
        difference |= (uint32_t)digest[i] ^ record->digest[i];
        ++compared;
    }
    difference |= compared ^ TS_DIGEST_BYTES;
    return ts_spoilt(ts_counted(0, TS_IMAGE_BY_DIFFERENCE), difference);
}

uint32_t ts_image_by_count(const uint8_t *digest)
{
    const volatile ts_image_record *const record = &ts_non_secure_image;
    uint32_t same = 0;
    for (uint32_t i = TS_DIGEST_BYTES; i > 0; --i) {
        same += record->digest[i - 1] == digest[i - 1];
    }
    return same * TS_IMAGE_BY_COUNT;
}
