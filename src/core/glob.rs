//! Globs over names: what people write to mean several things at once.

/// Does the whole text match the pattern, where `*` stands for any characters and `?` for one? Linear in the
/// product of both lengths, whatever the pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(seen) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == seen => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_means_what_people_expect() {
        let table = [
            ("container/web", "container/web", true),
            ("container/web", "container/web2", false),
            ("container/*", "container/shop-web-1", true),
            ("*web*", "container/shop-web-1", true),
            ("container/shop-?", "container/shop-1", true),
            ("container/shop-?", "container/shop-12", false),
            ("*", "", true),
            ("", "x", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("**", "anything", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
