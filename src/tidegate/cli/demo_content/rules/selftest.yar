// The planted sample by which a device sees that its scanner sees.

rule tidegate_planted_sample {
    meta:
        description = "A harmless text that stands in for an attack"
        action = "report"
    strings:
        $text = /TIDEGATE PLANTED SAMPLE [0-9]{4}, harmless, must be detected/
    condition:
        filesize < 4KB and $text
}
