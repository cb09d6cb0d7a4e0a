//! The last lines of a container's log: taken out of the engine's framing.
//!
//! Without a terminal, output comes in frames: a header of eight bytes (which stream, three zeros, the length in
//! big-endian order) and so many bytes. With a terminal it comes as it was written. What does not look like a frame
//! is taken as it is: a proxy may have changed it, and it is text for people either way.

/// Bytes of a log answer at most.
pub const LOG_LIMIT: usize = 256 * 1024;

/// The output itself, without frames; `raw` where the container has a terminal.
pub fn unframed(body: &[u8], raw: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    let mut rest = body;
    while !raw && !rest.is_empty() {
        let Some(([stream, 0, 0, 0, a, b, c, d], after)) = rest.split_first_chunk::<8>().filter(|(h, _)| h[0] <= 3)
        else {
            break;
        };
        let _ = stream;
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        // The last frame may be cut.
        let (piece, next) = after.split_at(length.min(after.len()));
        text.extend_from_slice(piece);
        rest = next;
    }
    text.extend_from_slice(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_taken_off_and_a_terminal_has_none() {
        let body = [frame(1, "three\n"), frame(2, "two\n"), frame(1, "")].concat();
        assert_eq!(unframed(&body, false), b"three\ntwo\n");
        assert_eq!(unframed(b"plain\r\ntext", true), b"plain\r\ntext");
        assert_eq!(unframed(&body, true), body, "a terminal may write anything");
    }

    #[test]
    fn what_is_cut_or_no_frame_is_text_as_it_is() {
        let whole = frame(1, "hello\n");
        for end in 8..whole.len() {
            assert_eq!(unframed(&whole[..end], false), &whole[8..end]);
        }
        for end in 0..8 {
            assert_eq!(unframed(&whole[..end], false), &whole[..end]);
        }
        assert_eq!(unframed(b"hello there, no frame", false), b"hello there, no frame");
        assert_eq!(unframed(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x'], false), b"x");
    }
}
