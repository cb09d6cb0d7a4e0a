//! The layers put together by `figment`, and where each value of the outcome was written.
//!
//! figment tags each value with the layer that it is from. Lines are kept beside it, by layer and key, because a
//! tag has no room for them. No layer of ours fails: what could not be read has been said before it gets here.

use std::cell::Cell;
use std::collections::BTreeMap;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::places::Origin;
use super::raw::{At, Entry, Mark};

/// Layers, later ones over earlier ones.
#[derive(Default)]
pub struct Stack {
    figment: Figment,
    origins: Vec<Origin>,
    marks: Vec<Mark>,
}

/// What all layers say together.
pub struct Merged {
    /// The values that count.
    pub root: Dict,
    /// Each layer by its number.
    pub origins: Vec<Origin>,
    /// Where each value is from.
    pub sources: Sources,
}

/// Where each value is from.
pub struct Sources {
    layers: BTreeMap<Tag, u16>,
    marks: Vec<Mark>,
}

/// One layer.
struct Layer {
    number: u16,
    /// Given away once: of ten thousand tables there is no copy more than needed.
    dict: Cell<Dict>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.number.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.take()))
    }
}

impl Stack {
    /// Lays a text over what there is: tables are joined, lists add up, and of anything else the later one counts.
    pub fn add(&mut self, origin: Origin, dict: Dict, mark: Mark) {
        let layer = self.layer(origin, dict, mark);
        self.figment = std::mem::take(&mut self.figment).admerge(layer);
    }

    /// Lays values that no text holds over what there is: tables are joined, and of anything else, lists as well,
    /// the later one counts.
    pub fn replace(&mut self, origin: Origin, dict: Dict) {
        let mark = Mark::from(&dict);
        let layer = self.layer(origin, dict, mark);
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }

    fn layer(&mut self, origin: Origin, dict: Dict, mark: Mark) -> Layer {
        let number = u16::try_from(self.origins.len()).unwrap_or(u16::MAX);
        self.origins.push(origin);
        self.marks.push(mark);
        Layer { number, dict: Cell::new(dict) }
    }

    /// The outcome.
    pub fn merged(self) -> Merged {
        let Stack { figment, origins, marks } = self;
        // As no layer fails, neither does what they are together.
        let root = figment.data().unwrap_or_default().remove(&Profile::Default).unwrap_or_default();
        let mut layers = BTreeMap::new();
        root.values().for_each(|value| tags(value, &figment, &mut layers));
        Merged { root, origins, sources: Sources { layers, marks } }
    }
}

/// Which layer each tag is of: so figment, which holds everything once more, need not stay.
fn tags(value: &Value, figment: &Figment, layers: &mut BTreeMap<Tag, u16>) {
    let tag = value.tag();
    if !layers.contains_key(&tag) {
        layers.extend(figment.get_metadata(tag).and_then(|layer| layer.name.parse().ok()).map(|number| (tag, number)));
    }
    match value {
        Value::Dict(_, dict) => dict.values().for_each(|value| tags(value, figment, layers)),
        Value::Array(_, items) => items.iter().for_each(|value| tags(value, figment, layers)),
        _ => {}
    }
}

impl Sources {
    /// The layer that a value is from.
    pub fn layer(&self, value: &Value) -> u16 {
        self.layers.get(&value.tag()).copied().unwrap_or_default()
    }

    /// Where the value at this path was written. A table that several layers share is where the first began it.
    pub fn at(&self, path: &[&str], value: &Value) -> At {
        let layer = self.layer(value);
        let line = |layer| self.mark(layer, path).map_or(0, |mark| mark.line);
        let mut first = layer;
        if value.as_dict().is_some() {
            for below in (0..layer).rev() {
                match self.mark(below, path) {
                    Some(Mark { keys: Some(_), .. }) => first = below,
                    Some(_) => break,
                    None => {}
                }
            }
        }
        At { layer: first, line: line(first) }
    }

    /// Where an entry of the list at this path was written, which was the `number`-th in its own layer.
    pub fn take_entry(&mut self, path: &[&str], layer: u16, number: usize) -> Entry {
        let mark = self.marks.get_mut(usize::from(layer));
        let list = path.iter().try_fold(mark, |mark, name| Some(mark?.keys.as_mut()?.get_mut(*name))).flatten();
        list.and_then(|list| list.entries.get_mut(number)).map(std::mem::take).unwrap_or_default()
    }

    fn mark(&self, layer: u16, path: &[&str]) -> Option<&Mark> {
        path.iter().try_fold(self.marks.get(usize::from(layer))?, |mark, name| mark.keys.as_ref()?.get(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::{self, Written};
    use super::*;

    fn read(text: &str) -> Written {
        raw::read(text).0.unwrap()
    }

    #[test]
    fn layers_join_tables_and_add_lists_only_between_files() {
        for (add, count) in [(true, 2), (false, 1)] {
            let mut stack = Stack::default();
            let base = read("x = 1\n[t]\na = 1\nb = 1\n[[l]]\nn = 1\n");
            stack.add(Origin::Text, base.dict, base.mark);
            let over = read("x = 2\n[t]\nb = 2\n[[l]]\nn = 2\n");
            if add {
                stack.add(Origin::Text, over.dict, over.mark);
            } else {
                stack.replace(Origin::Environment, over.dict);
            }
            let Merged { root, sources, .. } = stack.merged();
            let at = |path: &[&str]| {
                let at =
                    sources.at(path, path[1..].iter().fold(&root[path[0]], |v, name| &v.as_dict().unwrap()[*name]));
                (at.layer, at.line)
            };
            let line = |line| if add { line } else { 0 };
            assert_eq!((at(&["t", "a"]), at(&["t", "b"]), at(&["x"])), ((0, 3), (1, line(3)), (1, line(1))));
            assert_eq!(at(&["t"]), (0, 2), "where the first layer began it");
            assert_eq!(root["l"].as_array().unwrap().len(), count);
        }
    }

    #[test]
    fn an_entry_is_found_by_its_number_in_its_own_layer() {
        let mut stack = Stack::default();
        for text in ["[[l]]\nn = 1\n[[l]]\nn = 2\n", "", "\n\n[[l]]\n\nn = 3\n"] {
            let Written { dict, mark } = read(text);
            stack.add(Origin::Text, dict, mark);
        }
        let Merged { root, mut sources, .. } = stack.merged();
        let layers: Vec<u16> = root["l"].as_array().unwrap().iter().map(|entry| sources.layer(entry)).collect();
        assert_eq!(layers, [0, 0, 2]);
        let entry = sources.take_entry(&["l"], 2, 0);
        assert_eq!((entry.line, &*entry.lines), (3, &[5][..]));
        assert_eq!(sources.take_entry(&["l"], 0, 1).line, 3);
        assert_eq!(sources.take_entry(&["l"], 0, 2).line, 0, "there is none");
    }
}
