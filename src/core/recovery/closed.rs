//! The names of repairs that are over, as far as they are remembered: a note or a line about one is old news.

use std::collections::{BTreeSet, VecDeque};

/// Names that are remembered; the oldest go first.
const REMEMBERED: usize = 10_000;

/// The names of repairs that are over.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    names: BTreeSet<String>,
    /// In the order in which they ended.
    order: VecDeque<String>,
}

impl Closed {
    /// A repair is over.
    pub fn insert(&mut self, name: String) {
        if !self.names.insert(name.clone()) {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    /// True for one that is known to be over.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

impl FromIterator<String> for Closed {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Closed {
        let mut closed = Closed::default();
        names.into_iter().for_each(|name| closed.insert(name));
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_names_go_and_no_more_are_kept_than_may_be() {
        let mut closed: Closed = (0..REMEMBERED).map(|n| n.to_string()).collect();
        closed.insert("0".to_string());
        assert!(closed.contains("0") && closed.names.len() == REMEMBERED);
        (0..10).for_each(|n| closed.insert(format!("new-{n}")));
        assert_eq!((closed.names.len(), closed.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!closed.contains("9") && closed.contains("10") && closed.contains("new-9"));
    }
}
