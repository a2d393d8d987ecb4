// New in this release. Meridian is a family of our own invention.

rule meridian_store {
    meta:
        description = "Store in which Meridian keeps what it has collected"
        action = "quarantine"
    strings:
        $header = { 4D 52 44 4E 00 01 [4] 70 61 67 65 }
    condition:
        $header
}
