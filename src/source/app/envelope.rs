//! Reads values out of a JSON answer without building it in memory.
//!
//! A [`Plan`] is the set of places that rules point at; [`Plan::read`] walks the text once, keeps what
//! stands at those places and skips the rest without recursion. So an answer of the full body limit
//! costs no more memory than its own bytes, and no nesting can exhaust the stack. It does not judge
//! and never guesses: a text is a text, also when it looks like a number.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::form;
use crate::core::name;

/// Objects of one list that are looked at.
pub const ROWS: usize = 1_000;
/// Steps of one pointer.
const DEPTH: usize = 32;
/// Characters of a text that are kept; enough for a name or an instant.
const TEXT: usize = 256;

/// What stands at one place.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Found {
    /// Nothing.
    #[default]
    Missing,
    /// `null`.
    Null,
    /// A whole number.
    Whole(i128),
    /// A number with a fraction or exponent.
    Real(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A text of at most 256 characters; one that was longer is cut and ends in a fingerprint of the whole.
    Text(String),
    /// A list or an object.
    Nested,
}

impl Found {
    /// The number, a flag as 0 or 1; `None` for everything else.
    pub fn number(&self) -> Option<f64> {
        match self {
            Found::Whole(n) => Some(*n as f64),
            Found::Real(n) => Some(*n),
            Found::Flag(flag) => Some(f64::from(u8::from(*flag))),
            Found::Missing | Found::Null | Found::Text(_) | Found::Nested => None,
        }
    }
}

/// A JSON pointer (RFC 6901), taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads `/a/b~1c/0`. The empty pointer and more than 32 steps are refused.
    pub fn parse(text: &str) -> Result<Pointer, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("\"{text}\" is not a JSON pointer; write for example \"/queue/counts/failed\""));
        };
        form::escapes(text)?;
        let steps: Vec<String> = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        if steps.len() > DEPTH {
            return Err(format!("has more than {DEPTH} steps"));
        }
        Ok(Pointer(steps))
    }

    /// Like [`Pointer::parse`], and a bare word is the field of that name.
    pub fn relative(text: &str) -> Result<Pointer, String> {
        match text {
            "" => Err("is empty; name a field".to_string()),
            _ if text.starts_with('/') => Pointer::parse(text),
            _ => Ok(Pointer(vec![text.to_string()])),
        }
    }

    /// True when `other` leads to something inside what this one leads to.
    pub fn holds(&self, other: &Pointer) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }
}

/// A place in the text and what is wanted there.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Keep what stands here in this slot.
    slot: Option<usize>,
    /// Walk the list that stands here by this row plan.
    rows: Option<usize>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn at(&mut self, pointer: &Pointer) -> &mut Node {
        pointer.0.iter().fold(self, |node, step| node.children.entry(step.clone()).or_default())
    }
}

/// Everything that is wanted from one kind of object.
#[derive(Debug, Clone, Default)]
struct Shape {
    node: Node,
    slots: usize,
}

impl Shape {
    fn slot(&mut self, pointer: &Pointer) -> usize {
        let node = self.node.at(pointer);
        let slot = *node.slot.get_or_insert(self.slots);
        self.slots = self.slots.max(slot + 1);
        slot
    }
}

/// Every place that some rule points at.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    top: Shape,
    rows: Vec<Shape>,
}

impl Plan {
    /// Wants the value at `pointer`; the number of its slot in [`Picked::values`].
    pub fn want(&mut self, pointer: &Pointer) -> usize {
        self.top.slot(pointer)
    }

    /// Wants two values of each object in the list at `each`: the number of the list in
    /// [`Picked::lists`] and of the two slots in its rows.
    pub fn want_each(&mut self, each: &Pointer, id: &Pointer, value: &Pointer) -> (usize, usize, usize) {
        let list = *self.top.node.at(each).rows.get_or_insert(self.rows.len());
        if list == self.rows.len() {
            self.rows.push(Shape::default());
        }
        let Some(shape) = self.rows.get_mut(list) else { return (list, 0, 0) };
        (list, shape.slot(id), shape.slot(value))
    }

    /// Walks `json` once. An error is a reason in words, with the place but without the content.
    pub fn read(&self, json: &str) -> Result<Picked, String> {
        let mut picked =
            Picked { values: vec![Found::Missing; self.top.slots], lists: vec![List::default(); self.rows.len()] };
        let walk = Walk { node: &self.top.node, plan: self, values: &mut picked.values, lists: &mut picked.lists };
        let mut text = serde_json::Deserializer::from_str(json);
        walk.deserialize(&mut text)
            .and_then(|()| text.end())
            .map_err(|e| format!("the answer is not valid JSON (line {}, column {})", e.line(), e.column()))?;
        Ok(picked)
    }
}

/// What stood at the wanted places.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picked {
    values: Vec<Found>,
    lists: Vec<List>,
}

impl Picked {
    /// What stood at the place of this slot.
    pub fn value(&self, slot: usize) -> &Found {
        self.values.get(slot).unwrap_or(&Found::Missing)
    }

    /// The list of this number.
    pub fn list(&self, list: usize) -> &List {
        const NONE: &List = &List { seen: Seen::Missing, rows: Vec::new(), more: false };
        self.lists.get(list).unwrap_or(NONE)
    }
}

/// What stood where a list was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seen {
    /// Nothing.
    #[default]
    Missing,
    /// A list, or `null`, which some writers use for an empty one.
    List,
    /// Something else.
    Other,
}

/// One list of objects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct List {
    /// Whether there was a list at all.
    pub seen: Seen,
    /// The wanted values of each object, at most [`ROWS`].
    pub rows: Vec<Vec<Found>>,
    /// There were more than [`ROWS`].
    pub more: bool,
}

/// Walks what stands at one node.
struct Walk<'a> {
    node: &'a Node,
    plan: &'a Plan,
    values: &'a mut [Found],
    lists: &'a mut [List],
}

impl Walk<'_> {
    fn keep(self, found: Found) {
        if let Some(value) = self.node.slot.and_then(|slot| self.values.get_mut(slot)) {
            *value = found;
        }
    }

    fn note_list(&mut self, seen: Seen) {
        if let Some(list) = self.node.rows.and_then(|list| self.lists.get_mut(list)) {
            *list = List { seen, ..List::default() };
        }
    }

    fn scalar(mut self, found: Found) {
        self.note_list(if found == Found::Null { Seen::List } else { Seen::Other });
        self.keep(found);
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.scalar(Found::Flag(flag));
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        self.scalar(Found::Whole(n.into()));
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        self.scalar(Found::Whole(n.into()));
        Ok(())
    }

    fn visit_f64<E>(self, n: f64) -> Result<(), E> {
        self.scalar(Found::Real(n));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Found::Text(name::bounded(text, TEXT, |_| true).into_owned()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(Found::Null);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(step) = map.next_key_seed(Step(&self.node.children))? {
            match step {
                Some(node) => {
                    map.next_value_seed(Walk { node, plan: self.plan, values: self.values, lists: self.lists })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        self.note_list(Seen::Other);
        self.keep(Found::Nested);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.note_list(Seen::List);
        let rows = self.node.rows.and_then(|n| Some((self.plan.rows.get(n)?, self.lists.get_mut(n)?)));
        if let Some((shape, list)) = rows {
            while list.rows.len() < ROWS {
                let mut values = vec![Found::Missing; shape.slots];
                let walk = Walk { node: &shape.node, plan: self.plan, values: &mut values, lists: &mut [] };
                if items.next_element_seed(walk)?.is_none() {
                    break;
                }
                list.rows.push(values);
            }
            while items.next_element::<IgnoredAny>()?.is_some() {
                list.more = true;
            }
        } else {
            let mut index = 0_usize;
            loop {
                let next = match self.node.children.get(index.to_string().as_str()) {
                    Some(node) => {
                        let walk = Walk { node, plan: self.plan, values: self.values, lists: self.lists };
                        items.next_element_seed(walk)?.is_some()
                    }
                    None => items.next_element::<IgnoredAny>()?.is_some(),
                };
                if !next {
                    break;
                }
                index = index.saturating_add(1);
            }
        }
        self.keep(Found::Nested);
        Ok(())
    }
}

/// Recognises a wanted field by its name, without copying the name.
struct Step<'a>(&'a BTreeMap<String, Node>);

impl<'de, 'a> DeserializeSeed<'de> for Step<'a> {
    type Value = Option<&'a Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Step<'a> {
    type Value = Option<&'a Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    fn one(json: &str, place: &str) -> Result<Found, String> {
        let mut plan = Plan::default();
        let slot = plan.want(&pointer(place));
        Ok(plan.read(json)?.value(slot).clone())
    }

    #[test]
    fn a_pointer_leads_to_what_stands_there() {
        let json =
            r#" {"a": {"b": [1, 2.5, {"c/d": "x", "e~f": true}], "n": null}, "": 7, "big": 18446744073709551615} "#;
        let table = [
            ("/a/b/0", Found::Whole(1)),
            ("/a/b/1", Found::Real(2.5)),
            ("/a/b/2/c~1d", Found::Text("x".to_string())),
            ("/a/b/2/e~0f", Found::Flag(true)),
            ("/a/b/3", Found::Missing),
            ("/a/b", Found::Nested),
            ("/a", Found::Nested),
            ("/a/n", Found::Null),
            ("/a/n/x", Found::Missing),
            ("/", Found::Whole(7)),
            ("/big", Found::Whole(18_446_744_073_709_551_615)),
            ("/nowhere", Found::Missing),
        ];
        for (place, found) in table {
            assert_eq!(one(json, place).unwrap(), found, "{place}");
        }
    }

    #[test]
    fn a_text_is_never_a_number_and_a_flag_is() {
        assert_eq!(Found::Text("5".to_string()).number(), None);
        assert_eq!(Found::Flag(true).number(), Some(1.0));
        assert_eq!(Found::Null.number(), None);
        assert_eq!(Found::Whole(-3).number(), Some(-3.0));
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        for json in ["", "{", "{\"a\": 1}}", "{\"a\": NaN}", "[1,]", "{\"a\": 1e999}", "\"open", "{\"a\" 1}", "nul"] {
            let why = one(json, "/a").unwrap_err();
            assert!(why.starts_with("the answer is not valid JSON (line 1"), "{json}: {why}");
        }
    }

    #[test]
    fn depth_costs_neither_stack_nor_memory() {
        let deep = "[".repeat(1_000_000);
        assert!(one(&deep, "/a").is_err());
        let closed = format!("{{\"x\": {}{}, \"a\": 3}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(one(&closed, "/a").unwrap(), Found::Whole(3));
        assert!(Pointer::parse(&"/a".repeat(33)).is_err());
        assert!(one(&"[".repeat(1_000_000), &"/0".repeat(32)).is_err());
    }

    #[test]
    fn rows_of_one_list_serve_several_rules_and_are_bounded() {
        let mut plan = Plan::default();
        let (list, id, cpu) = plan.want_each(&pointer("/agents"), &pointer("/run_id"), &pointer("/cpu"));
        let (same, same_id, mem) = plan.want_each(&pointer("/agents"), &pointer("/run_id"), &pointer("/mem/rss"));
        assert_eq!((list, id), (same, same_id));
        let picked = plan.read(r#"{"agents": [{"run_id": "a", "cpu": 1, "mem": {"rss": 2}}, 5, {"cpu": 3}]}"#).unwrap();
        let rows = &picked.list(list).rows;
        assert_eq!(rows.len(), 3);
        assert_eq!(
            (&rows[0][id], &rows[0][cpu], &rows[0][mem]),
            (&Found::Text("a".into()), &Found::Whole(1), &Found::Whole(2))
        );
        assert_eq!(rows[1], vec![Found::Missing; 3]);
        assert_eq!(rows[2][cpu], Found::Whole(3));

        let many = format!("{{\"agents\": [{}{{}}]}}", "{},".repeat(ROWS));
        let picked = plan.read(&many).unwrap();
        assert_eq!((picked.list(list).rows.len(), picked.list(list).more), (ROWS, true));
        for (json, seen) in [
            ("{}", Seen::Missing),
            ("{\"agents\":null}", Seen::List),
            ("{\"agents\":{}}", Seen::Other),
            ("{\"agents\":3}", Seen::Other),
        ] {
            assert_eq!(plan.read(json).unwrap().list(list).seen, seen, "{json}");
        }
    }

    const TOKENS: &[&str] = &[
        "{", "}", "[", "]", ":", ",", "\"a\"", "\"", "a", "0", "-1", "2.5", "1e999", "true", "null", "nul", " ", "\\",
        "\u{0}", "ü",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_text_is_read_or_refused(picks in prop::collection::vec(0..TOKENS.len(), 0..30)) {
            let text: String = picks.into_iter().map(|pick| TOKENS[pick]).collect();
            let mut plan = Plan::default();
            plan.want(&pointer("/a"));
            plan.want(&pointer("/a/0/a"));
            plan.want_each(&pointer("/0"), &pointer("/a"), &pointer("/0"));
            let ours = plan.read(&text);
            // Who is refused by a full parser must be refused here too, as far as the value is looked at.
            if ours.is_err() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
            }
        }

        #[test]
        fn what_is_picked_is_what_a_full_parser_finds(a in any::<i64>(), b in -1e300..1e300, c in any::<bool>(), d in prop::collection::vec(any::<u8>(), 0..20)) {
            let d = String::from_utf8_lossy(&d).into_owned();
            let json = serde_json::json!({"x": {"a": a, "b": b}, "c": c, "d": d, "e": [a]});
            let text = json.to_string();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(one(&text, "/x/a").unwrap(), Found::Whole(a.into()));
            prop_assert_eq!(one(&text, "/x/b").unwrap().number(), json["x"]["b"].as_f64());
            prop_assert_eq!(one(&text, "/c").unwrap(), Found::Flag(c));
            prop_assert_eq!(one(&text, "/d").unwrap(), Found::Text(d));
            prop_assert_eq!(one(&text, "/e/0").unwrap(), Found::Whole(a.into()));
        }
    }
}
