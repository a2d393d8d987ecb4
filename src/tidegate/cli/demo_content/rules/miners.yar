// Programs that spend other people's electricity.

rule miner_configuration {
    meta:
        description = "A miner's configuration: pool, wallet, and an algorithm that no office needs"
        action = "quarantine"
    strings:
        $pools = /"pools"\s*:\s*\[/
        $url = /"url"\s*:\s*"(stratum\+(tcp|ssl):\/\/)?[0-9a-z.\-]{4,60}:[0-9]{2,5}"/
        $algorithm = /"algo"\s*:\s*"(rx\/0|cn\/r|gr|kawpow)"/
        $donate = "\"donate-level\""
    condition:
        filesize < 200KB and 3 of them
}

rule miner_start_script {
    meta:
        description = "Script that starts a miner and ends the others first"
        action = "quarantine"
    strings:
        $pool = /stratum\+(tcp|ssl):\/\/[0-9a-z.\-]{4,60}:[0-9]{2,5}/
        $kill = /(pkill|killall)\s+(-9\s+)?-?f?\s*["']?(xmrig|minerd|kdevtmpfsi|kinsing)/
        $cores = /--(threads|cpu-max-threads-hint)[= ][0-9]{1,3}/
    condition:
        filesize < 200KB and all of them
}

rule huge_pages_for_miner {
    meta:
        description = "Script that sets huge pages and model registers for a miner"
        action = "quarantine"
    strings:
        $pages = /sysctl\s+(-w\s+)?vm\.nr_hugepages=[0-9]{3,6}/
        $register = /wrmsr\s+(-a\s+)?0x1a4\s+0xf/
    condition:
        filesize < 200KB and all of them
}
