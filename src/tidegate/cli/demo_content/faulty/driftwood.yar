// New in this release. Driftwood is a family of our own invention.

rule driftwood_archive {
    meta:
        description = "Archive with a table of slots, two of which hold the same odd key"
        action = "quarantine"
    condition:
        uint32be(0) == 0x44525754 and
        for any i in (1..uint32(4)) : (
            for any j in (1..uint32(4)) : (
                uint32(8 + i * 8) == 0x6B657921 and
                uint32(8 + j * 8) == uint32(8 + i * 8) and
                i != j
            )
        )
}
