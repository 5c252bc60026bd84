"""What Jetsons print, as their owners published it; a line that is built after NVIDIA's description instead says so."""

from __future__ import annotations

# L4T 36.4 (JetPack 6): tegrastats of an Orin Nano; GR3D with load and the clock of its one cluster.
ORIN_NANO = (
    "09-24-2024 10:40:59 RAM 2448/7620MB (lfb 4x1MB) SWAP 0/3810MB (cached 0MB) CPU [0%@729,2%@729,0%@729,1%@729,0%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] cpu@47.656C soc2@46.5C gpu@47.343C tj@48.218C soc1@48.218C "
    "VDD_IN 4910mW/4890mW VDD_CPU_GPU_CV 547mW/540mW VDD_SOC 1411mW/1400mW"
)
# L4T 36.4.4: AGX Orin, its GPU powered off, from the tests of github.com/lesomnus/tegra-exporter.
AGX_ORIN = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112,8%@2035,14%@2201,46%@1267,"
    "47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,6%@1036,10%@1036] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off "
    "NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C "
    "soc1@49.656C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW"
)
# L4T 35 (JetPack 5): an AGX Orin with cores and sensors that are off, shortened.
AGX_ORIN_OFF = (
    "RAM 1282/62795MB (lfb 15152x4MB) CPU [0%@729,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C "
    "CPU@42.5C Tboard@33C tj@44C VDD_GPU_SOC 3201mW/3201mW VDD_CPU_CV 400mW/500mW VIN_SYS_5V0 3932mW/3900mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 302mW/302mW NC 0mW/0mW"
)
# L4T 38.4 (JetPack 7.1): AGX Thor, idle; no load of the GPU, three clusters, VIN measured.
THOR = (
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,1%@972,0%@972,0%@972,0%@972,"
    "0%@972,8%@972,0%@972,0%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 NVENC1_FREQ @314 NVDEC0_FREQ @314 "
    "NVDEC1_FREQ @314 NVJPG0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C tj@38.875C soc012@37.468C gpu@38.875C "
    "soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW"
)
# L4T 39.2 (JetPack 7.2): a Thor without VIN; a third figure of rails and a second of zones, from the tests of tegra-exporter.
THOR_R39 = (
    "07-23-2026 15:29:26 RAM 9101/125811MB (lfb 19x4MB) SWAP 0/2048MB (cached 0MB) CPU [39%@2160,20%@2160,16%@1944,15%@1944,17%@972,"
    "15%@972,19%@2214,22%@2214,13%@2430,20%@2430,26%@972,19%@972,15%@1836,22%@1836] EMC_FREQ 7%@3200 GR3D_FREQ @[314,314,314] "
    "NVENC0_FREQ @1556 NVENC1_FREQ @1556 NVDEC0_FREQ @1556 NVDEC1_FREQ @1556 NVJPG0_FREQ @1556 VIC 59%@423 OFA_FREQ @1556 PVA0_FREQ off "
    "APE 300 cpu@34.843C/34.843C tj@35.906C/35.906C soc012@34.437C/34.437C gpu@35.906C/35.906C soc345@34.406C/34.406C "
    "VDD_GPU 4925mW/4925mW/4925mW VDD_CPU_SOC_MSS 8710mW/8710mW/8710mW VIN_SYS_5V0 6767mW/6767mW/6767mW"
)
# Built after the two above and "tegrastats Utility": Thor under load, load and clocks of the GPU in one, a core off.
THOR_LOADED = (
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] EMC_FREQ 34%@4266 "
    "GR3D_FREQ 87%@[1574,1574,1574] cpu@58.25C/61.75C tj@66.625C/66.625C gpu@56.937C/66.625C "
    "VDD_GPU 37939mW/8660mW/37939mW VIN 124486mW/36487mW/124486mW"
)

# `nvpmodel -q` of Orin Nano, AGX Orin and Thor.
QUERIES = {
    "NV Power Mode: 15W\n0\n": (0, "15W"),
    "NV Power Mode: MODE_30W\n2\n": (2, "MODE_30W"),
    "NVPM WARN: fan mode is not set to cool\nNV Power Mode: MAXN\n0\n": (0, "MAXN"),
    "NV Power Mode: 120W\n1\n": (1, "120W"),
    # Without root, on L4T 36, put together from two reports: errno 13 is told, and the mode after it.
    "NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\nNV Power Mode: MAXN_SUPER\n2\n": (2, "MAXN_SUPER"),
}
# The lines of /etc/nvpmodel.conf that name modes, between others; the head is NVIDIA's description of the format.
CONFIGURATIONS = {
    "orin-nano-super": "# < POWER_MODEL ID=id_num NAME=mode_name >\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/cpu0\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    "< POWER_MODEL ID=3 NAME=7W >\n< PM_CONFIG DEFAULT=1 >\n",
    "orin-nano": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n< PM_CONFIG DEFAULT=0 >\n",
    "agx-orin": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"
    "< POWER_MODEL ID=3 NAME=MODE_50W >\n",
    "thor": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n< POWER_MODEL ID=2 NAME=90W >\n"
    "< POWER_MODEL ID=3 NAME=70W >\n",
}
# `nvpmodel -m 2` of a Thor whose owner was asked and did not say yes.
REBOOT = (
    "NVPM WARN: Golden image context is already created\nNVPM WARN: Reboot required for changing to this power mode: 2\n"
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n"
)
DECLINED = "NVPM ERROR: optMask is 1, no request for power mode\n"

# `jetson_clocks --show`: an Orin Nano at 15 W whose clocks follow the load, and a Thor after `jetson_clocks`. Cores left out.
CLOCKS_ORIN_NANO = """SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-5
cpu0:  Online=1 Governor=ondemand MinFreq=729600 MaxFreq=1510400 CurrentFreq=960000 IdleStates: WFI=1 c7=1
cpu5:  Online=0 Governor=ondemand MinFreq=115200 MaxFreq=2201600 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=306000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=665600000 FreqOverride=0
FAN Dynamic Speed Control=kernel hwmon0_pwm1=88
"""
CLOCKS_THOR = """SOC family:tegra264  Machine:NVIDIA Jetson AGX Thor Developer Kit
Online CPUs: 0-13, Offline CPUs:
cpu0:  Governor=schedutil MinFreq=2601000 MaxFreq=2601000 CurrentFreq=2601000 IdleStates: WFI=0 cc7=0
cpu13: Governor=schedutil MinFreq=2601000 MaxFreq=2601000 CurrentFreq=2601000 IdleStates: WFI=0 cc7=0
gpu-gpc-0 MinFreq=1575000000 MaxFreq=1575000000 CurrentFreq=1575000000
gpu-nvd-0 MinFreq=1692000000 MaxFreq=1692000000 CurrentFreq=1692000000
EMC MinFreq=665600000 MaxFreq=4266000000 CurrentFreq=4266000000 FreqOverride=1
PVA0_VPS0: Online=0 MinFreq=0 MaxFreq=1215000000 CurrentFreq=1215000000
FAN Dynamic Speed Control=nvfancontrol hwmon1_pwm1=73
NV Power Mode: MAXN
"""
