"""Kinds of hardware: costs of computing, memory and radio, each constant with its source.

Numbers marked *derived* are computed from published ones as the comment beside them says. They are
good enough to compare choices (which fraction, whether to coalesce), but do not replace
measurements of your board. Sources:

[FN]  L. Feeney and M. Nilsson, "Investigating the energy consumption of a wireless network
      interface in an ad hoc networking environment", INFOCOM 2001, with the fit for point to point
      packets that L. Feeney gives in "An energy consumption model for performance analysis of
      routing protocols for mobile ad hoc networks", MONET 6(3), 2001: energy = m bytes + b, sending
      1.9 uJ/byte + 420 uJ, receiving 0.42 uJ/byte + 330 uJ.
[NR]  Nordic nRF52832 Product Specification v1.1, chapter "Power and clock management", 3 V, DC/DC:
      transmitting at 0 dBm 7.1 mA, receiving 6.5 mA at 1 Mb/s.
[NC]  Table of nRF52 datasheet currents at embedwise.pages.dev (nRF52 power profiler): nRF52832 CPU
      at 64 MHz from flash with DC/DC 3.4 mA at 3 V, System ON sleep 2.0 uA.
[ES]  Espressif, "ESP32-PICO-KIT/ZERO user manual", table 6: 802.11n MCS7 transmitting 178 mA,
      receiving 110 mA at 3.3 V; ESP32 datasheet: modem sleep 240 MHz 30-68 mA (we take 30).
[EW]  Espressif, ESP-IDF programming guide, "Introduction to low power mode in Wi-Fi scenarios",
      ESP32: automatic light sleep with the connection maintained 3.34 mA at DTIM 1, 2.33 mA at
      DTIM 3, 2.19 mA at DTIM 10. Light sleep without the link would be 0.8 mA.
[CX]  cnx-software.com, "A deep dive into Raspberry Pi Zero 2 W's power consumption" (2021), Otii
      Arc: 600 mW idle, 375 mW after its tweaks.
[AJ]  andrejacobs.org, "Raspberry Pi Zero 2 W temperature and power consumption": four loaded cores
      draw 270 mA at 5 V more than a loaded Zero W, idle 2 mA more.
[N9]  Nordic nRF9160 Product Specification, "Modem current consumption", Cat-M1, 23 dBm: one PSM
      tracking area update 105 mJ in 1.5 s, uplink of 180 kbit/s 105 mA, PSM floor 2.7 uA, at 3.7 V.
[HO]  M. Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9 (45 nm): 64 bits from an
      8 KB memory 10 pJ, from a 32 KB memory 20 pJ, from DRAM 1.3-2.6 nJ.
[CB]  CBin-NN, Electronics 13(9):1624, 2024: on a Cortex-M a binary product is a load, an exclusive
      or, and a bit count in software, since those cores have no such instruction.
[XT]  xtronix.co.uk, "What power does my Raspberry Pi PCB need?" (2017): with a camera at work a Pi
      B+ draws 180 mA at 5 V more than without, a Pi 2B 190 mA, a Pi 3B 180 mA.
[HX]  Himax HM01B0 image sensor, the maker's product brief: below 2 mW at QVGA, 30 frames/s.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import UsageError

WATT_HOUR_J = 3600.0


@dataclass(frozen=True)
class Hardware:
    """The costs of one kind of device.

    binary_mac_j, pixel_mac_j  joules of a multiply-accumulate on bits, and on 8-bit pixels
    binary_mac_s, pixel_mac_s  seconds of the same
    memory_byte_j              joules of moving one byte between memory and core
    sensor_w, sensor_s         power of the camera, and seconds for which a picture needs it
    idle_w                     power between samples, with the connection kept
    sent_packet_j, sent_byte_j, received_packet_j, received_byte_j   the linear model of [FN]
    listen_w                   additional power of waiting for an answer with the receiver on
    packet_bytes               largest payload of one packet
    header_bytes               bytes of protocol headers of each request and each answer
    round_trip_s               time of an exchange, used until one has been measured
    battery_j                  energy of a usual battery of such a device
    """

    name: str
    title: str
    binary_mac_j: float
    pixel_mac_j: float
    binary_mac_s: float
    pixel_mac_s: float
    memory_byte_j: float
    sensor_w: float
    sensor_s: float
    idle_w: float
    sent_packet_j: float
    sent_byte_j: float
    received_packet_j: float
    received_byte_j: float
    listen_w: float
    packet_bytes: int
    header_bytes: int
    round_trip_s: float
    battery_j: float

    @property
    def sensor_j(self) -> float:
        """Joules of taking one picture."""
        return self.sensor_w * self.sensor_s


# Derived from [CB]: 32 binary products take two loads (4 cycles), an exclusive or (1), a bit count
# in registers (12), an addition and a share of the loop (3): 20 cycles. A pixel product is an
# addition or subtraction of 16-bit halves: 1.5 cycles if an instruction does two, else 3.
_MCU_BINARY_CYCLES = 20 / 32
_SENSOR_W, _SENSOR_S = 0.002, 1 / 30  # [HX]

_NRF_CYCLE_J = 3.4e-3 * 3.0 / 64e6  # [NC]: 159 pJ
_NRF_TX_W = 7.1e-3 * 3.0  # [NR]
_NRF_RX_W = 6.5e-3 * 3.0  # [NR]
_BLE_BYTE_S = 8e-6  # 1 Mb/s
# Derived from the Bluetooth LE air interface: 17 bytes around a payload (preamble, address,
# headers, CRC), a gap of 150 us, an empty acknowledgement of 10 bytes, 140 us of ramp-up at
# receiver power, and 1 ms of CPU for the stack: 21 uJ.
_BLE_PACKET_J = (
    17 * _BLE_BYTE_S * _NRF_TX_W
    + (150e-6 + 10 * _BLE_BYTE_S + 140e-6) * _NRF_RX_W
    + 1e-3 * 64e6 * _NRF_CYCLE_J
)

MCU_BLE = Hardware(
    name="mcu-ble",
    title="Cortex-M4 at 64 MHz with Bluetooth LE (nRF52832), button cell",
    binary_mac_j=_MCU_BINARY_CYCLES * _NRF_CYCLE_J,
    pixel_mac_j=1.5 * _NRF_CYCLE_J,
    binary_mac_s=_MCU_BINARY_CYCLES / 64e6,
    pixel_mac_s=1.5 / 64e6,
    memory_byte_j=20e-12 / 8,  # [HO], 32 KB
    sensor_w=_SENSOR_W,
    sensor_s=_SENSOR_S,
    # [NC] sleep, and derived: one empty connection event per second.
    idle_w=2e-6 * 3.0 + _BLE_PACKET_J,
    sent_packet_j=_BLE_PACKET_J,
    sent_byte_j=_BLE_BYTE_S * _NRF_TX_W,
    received_packet_j=_BLE_PACKET_J,
    received_byte_j=_BLE_BYTE_S * _NRF_RX_W,
    listen_w=0.0,  # asleep until the next connection event
    packet_bytes=244,
    header_bytes=8,
    round_trip_s=0.06,
    battery_j=0.3 * WATT_HOUR_J,  # 100 mAh at 3 V
)

_ESP_CYCLE_J = 30e-3 * 3.3 / 240e6  # [ES]: 412 pJ
_ESP_TX_W = 178e-3 * 3.3  # [ES]
_ESP_RX_W = 110e-3 * 3.3  # [ES]
_MCS7_BYTE_S = 8 / 72.2e6
# Derived from 802.11n at 2.4 GHz: preamble 36 us and 64 bytes of headers sent; DIFS 28 us, mean
# back-off 68 us, SIFS 10 us and an acknowledgement of 28 us with the receiver on.
_ESP_PACKET_J = (36e-6 + 64 * _MCS7_BYTE_S) * _ESP_TX_W + 134e-6 * _ESP_RX_W

MCU_WIFI = Hardware(
    name="mcu-wifi",
    title="ESP32 at 240 MHz with 802.11n, automatic light sleep between samples",
    binary_mac_j=_MCU_BINARY_CYCLES * _ESP_CYCLE_J,
    pixel_mac_j=3 * _ESP_CYCLE_J,
    binary_mac_s=_MCU_BINARY_CYCLES / 240e6,
    pixel_mac_s=3 / 240e6,
    memory_byte_j=20e-12 / 8,  # [HO], 32 KB
    sensor_w=_SENSOR_W,
    sensor_s=_SENSOR_S,
    idle_w=2.33e-3 * 3.3,  # [EW], automatic light sleep, connection kept at DTIM 3
    sent_packet_j=_ESP_PACKET_J,
    sent_byte_j=_MCS7_BYTE_S * _ESP_TX_W,
    received_packet_j=_ESP_PACKET_J,
    received_byte_j=_MCS7_BYTE_S * _ESP_RX_W,
    listen_w=_ESP_RX_W,
    packet_bytes=1460,
    header_bytes=80,
    round_trip_s=0.01,
    battery_j=7.4 * WATT_HOUR_J,  # 2000 mAh at 3.7 V
)

_PI_CYCLE_J = 270e-3 * 5.0 / 4 / 1e9  # [AJ]: at least 0.34 W a core at 1 GHz

PI_WIFI = Hardware(
    name="pi-wifi",
    title="Raspberry Pi Zero 2 W with Wi-Fi, the radio as [FN] measured it",
    # Derived: NEON counts the bits of 128 products in 4 cycles, and adds 16 pixels in 3.
    binary_mac_j=4 / 128 * _PI_CYCLE_J,
    pixel_mac_j=3 / 16 * _PI_CYCLE_J,
    binary_mac_s=4 / 128 / 1e9,
    pixel_mac_s=3 / 16 / 1e9,
    memory_byte_j=1.95e-9 / 8,  # [HO], the middle of its range for DRAM
    # [XT]: 180 mA at 5 V more with the camera on, including its share of the processor. Derived:
    # exposure and white balance take half a second, 15 frames, to settle.
    sensor_w=0.18 * 5.0,
    sensor_s=0.5,
    idle_w=0.375,  # [CX]
    sent_packet_j=420e-6,  # [FN]
    sent_byte_j=1.9e-6,  # [FN]
    received_packet_j=330e-6,  # [FN]
    received_byte_j=0.42e-6,  # [FN]
    listen_w=0.0,  # the receiver is always on, and part of the idle power
    packet_bytes=1460,
    header_bytes=80,
    round_trip_s=0.01,
    battery_j=37 * WATT_HOUR_J,  # a power bank of 10 Ah
)

MCU_LTEM = Hardware(
    name="mcu-ltem",
    title="Cortex-M33 at 64 MHz with LTE-M (nRF9160), asleep (PSM) between requests",
    # Its core is assumed to cost the same as the nRF52832's: same maker, same clock.
    binary_mac_j=_MCU_BINARY_CYCLES * _NRF_CYCLE_J,
    pixel_mac_j=1.5 * _NRF_CYCLE_J,
    binary_mac_s=_MCU_BINARY_CYCLES / 64e6,
    pixel_mac_s=1.5 / 64e6,
    memory_byte_j=20e-12 / 8,  # [HO], 32 KB
    sensor_w=_SENSOR_W,
    sensor_s=_SENSOR_S,
    # [N9] sleep, and derived: keeping the MQTT connection alive takes a wake-up every 60 s.
    idle_w=2.7e-6 * 3.7 + 0.105 / 60,
    # Derived: a request wakes the modem like a tracking area update [N9]; the answer arrives
    # within the same wake-up.
    sent_packet_j=0.105,
    sent_byte_j=0.105 * 3.7 / (180e3 / 8),  # [N9]
    received_packet_j=0.0,
    received_byte_j=0.045 * 3.7 / (180e3 / 8),  # [N9], its current at 0 dBm
    listen_w=0.0,
    packet_bytes=1358,
    header_bytes=80,
    round_trip_s=1.5,  # [N9]
    battery_j=19 * WATT_HOUR_J,  # the usable half of a lithium D cell
)

HARDWARE = {hardware.name: hardware for hardware in (MCU_BLE, MCU_WIFI, PI_WIFI, MCU_LTEM)}


def find_hardware(name: str, flag: str = "--hardware") -> Hardware:
    """Return the hardware called ``name``; ``UsageError`` names ``flag`` and lists the
    known ones.
    """
    try:
        return HARDWARE[name]
    except KeyError:
        known = ", ".join(HARDWARE)
        raise UsageError(f"{flag}: {name!r} is unknown; known are {known}") from None
