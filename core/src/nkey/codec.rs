//! Checksum and base32 of nkeys, without tables or branches on the data: seeds pass through here.

use base32ct::{Base32UpperUnpadded, Encoding};

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0. Bit by bit, because a table looked up by secret bytes leaks
/// them through the cache.
pub(crate) fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let carry = (crc >> 15).wrapping_neg();
            (crc << 1) ^ (carry & 0x1021)
        })
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
}
