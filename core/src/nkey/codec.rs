//! Checksum and base32 of nkeys, without tables or branches on the data: seeds pass through here.

use base32ct::{Base32UpperUnpadded, Encoding};

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0. A byte at a time, its eight steps put together as shifts, because
/// a table looked up by secret bytes leaks them through the cache.
pub(crate) fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0u16, |crc, byte| {
        let top = (crc >> 8) ^ u16::from(*byte);
        let top = top ^ (top >> 4);
        (crc << 8) ^ (top << 12) ^ (top << 5) ^ top
    })
}

/// Writes `bytes` as base32 into `text`, which must have exactly the room for it.
pub(crate) fn encode(bytes: &[u8], text: &mut [u8]) {
    let written = Base32UpperUnpadded::encode(bytes, text).map(str::len);
    debug_assert!(written.is_ok());
}

/// Reads base32 into `bytes`; false when a character is outside the alphabet or the length does not fit. Slack bits
/// are not looked at.
pub(crate) fn decode(text: &[u8], bytes: &mut [u8]) -> bool {
    let expected = bytes.len();
    Base32UpperUnpadded::decode(text, bytes).is_ok_and(|read| read.len() == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_has_the_check_value_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn a_byte_at_a_time_is_what_its_bits_are() {
        let bits = |crc: u16, byte: u8| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 }
            })
        };
        let mut data = alloc::vec::Vec::new();
        for byte in (0..=255u8).chain((0..=255).rev().map(|byte: u8| byte.wrapping_mul(167))) {
            let expected = bits(crc16(&data), byte);
            data.push(byte);
            assert_eq!(crc16(&data), expected);
        }
    }
}
