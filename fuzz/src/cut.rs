//! Taking an input apart: numbers from its front, places to cut it.

/// Numbers that follow from a seed, the same in every run (xorshift).
#[derive(Debug)]
pub struct Drawn(u64);

impl Drawn {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    /// One below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end.max(1)
    }
}

/// The input in pieces of 1 to `most` bytes.
pub fn pieces(mut bytes: &[u8], most: usize, drawn: &mut Drawn) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((1 + drawn.below(most)).min(bytes.len()));
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces
}

/// Operations of a state machine: one byte that says which, then what it works on, up to a byte 0xFF.
pub fn operations(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    bytes.split(|byte| *byte == 0xFF).filter_map(|part| part.split_first()).map(|(what, rest)| (*what, rest))
}
