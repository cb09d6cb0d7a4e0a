//! Globs over names: what people write to mean several things at once.

/// Does the whole text match the pattern, where `*` stands for any characters and `?` for one? Linear in the
/// product of both lengths, whatever the pattern; allocates nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on when what follows the last star does not fit.
    let mut retry = None;
    loop {
        let (before, seen_before) = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                retry = Some((pattern.clone(), seen_before.clone()));
                text = seen_before;
            }
            (Some(wanted), Some(seen)) if wanted == '?' || wanted == seen => {}
            (None, None) => return true,
            (_, None) => return before.clone().all(|rest| rest == '*'),
            (_, Some(_)) => {
                let Some((after, mut from)) = retry.take() else { return false };
                from.next();
                (pattern, text) = (after.clone(), from.clone());
                retry = Some((after, from));
            }
        }
    }
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
            ("a?*", "a", false),
            ("ž*?", "žluť", true),
            ("a*", "a", true),
            ("a**", "a", true),
            ("*a", "ab", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
