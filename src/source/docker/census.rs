//! How many containers are watched, and which are not: what is left out is always said.
//!
//! Counts by the reason that a container is not watched for, and puts the counts into one sentence for the first
//! screen, the page, `check` and `status`. Counts only; which containers are watched is decided in
//! [`select`](super::select).

use std::fmt::Write as _;

use super::select::{Called, Choice, Selection};
use super::wishes::Wishes;
use crate::client::docker::Listed;

/// How many containers there are, by whether and why not they are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Watched as containers that are to run.
    watched: usize,
    /// Jobs that compose runs once: told when they end with an error.
    jobs: usize,
    /// Not meant by `containers`, or not of our project.
    others: usize,
    /// Left out by `exclude`.
    excluded: usize,
    /// Left out by their own label.
    opted_out: usize,
    /// Watched ones with a label of ours that cannot be used, and the first such label.
    wrong: usize,
    wrong_label: &'static str,
    /// Ends of jobs that the engine's events told of and that were too many to keep.
    pub lost: u64,
}

impl Census {
    /// Counts `list`.
    pub fn of(list: &[Listed], selection: &Selection) -> Census {
        let mut census = Census::default();
        for listed in list {
            let count = match selection.judge(listed, &Called::of(listed)) {
                Choice::Watched => &mut census.watched,
                Choice::Job => &mut census.jobs,
                Choice::NotMeant => &mut census.others,
                Choice::Excluded => &mut census.excluded,
                Choice::OptedOut => &mut census.opted_out,
            };
            *count += 1;
            if let Some(label) = Wishes::of(listed).wrong.first() {
                (census.wrong, census.wrong_label) = (census.wrong + 1, label);
            }
        }
        census
    }

    /// The counts in words: `2 containers of project shop; 13 others are not watched: docker.containers = ["*"]`.
    pub fn words(&self, selection: &Selection) -> String {
        let mut text = counted(self.watched, "container", "containers");
        if self.jobs > 0 {
            let _ = write!(text, " and {}", counted(self.jobs, "job", "jobs"));
        }
        let named = !selection.containers.is_empty();
        if let (false, Some(project)) = (named, &selection.project) {
            let _ = write!(text, " of project {}", super::fact::clean(project, 64));
        } else if named && self.others > 0 {
            text.push_str(" named by docker.containers");
        }
        if self.others > 0 {
            let (others, are) = if self.others == 1 { ("other", "is") } else { ("others", "are") };
            let _ = write!(text, "; {} {others} {are} not watched: docker.containers = [\"*\"]", self.others);
        }
        for (count, why) in [(self.excluded, "docker.exclude"), (self.opted_out, "the label watchdog.enable=false")] {
            if count > 0 {
                let _ = write!(text, "; {count} left out by {why}");
            }
        }
        if self.wrong > 0 {
            let containers = counted(self.wrong, "container", "containers");
            let _ = write!(text, "; a label of {containers} cannot be used: {}", self.wrong_label);
        }
        if self.lost > 0 {
            let _ = write!(text, "; {} ended with an error while too many did to be told one by one", self.lost);
        }
        text
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, labels: &[(&str, &str)]) -> Listed {
        Listed {
            id: name.into(),
            names: vec![format!("/{name}")],
            labels: labels.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect(),
            ..Listed::default()
        }
    }

    fn of_project(project: &str, count: usize) -> Vec<Listed> {
        let name = |n| format!("{project}-s{n}-1");
        let label = |n: usize| format!("s{n}");
        (0..count)
            .map(|n| {
                listed(&name(n), &[("com.docker.compose.project", project), ("com.docker.compose.service", &label(n))])
            })
            .collect()
    }

    fn said(list: &[Listed], selection: &Selection) -> String {
        Census::of(list, selection).words(selection)
    }

    #[test]
    fn what_is_left_out_is_said_with_how_to_take_it_in() {
        let list = [of_project("x", 2), of_project("y", 12), vec![listed("alien", &[])]].concat();
        let ours = Selection { project: Some("x".into()), ..Selection::default() };
        assert_eq!(
            said(&list, &ours),
            "2 containers of project x; 13 others are not watched: docker.containers = [\"*\"]"
        );
        let named = Selection { containers: vec!["y-s1-1".into(), "s0".into()], ..ours.clone() };
        assert_eq!(
            said(&list, &named),
            "2 containers named by docker.containers; 13 others are not watched: docker.containers = [\"*\"]"
        );
        let all = Selection { containers: vec!["*".into()], ..ours.clone() };
        assert_eq!(said(&list, &all), "15 containers", "a star means all, whatever our own project is");
        assert_eq!(said(&list, &Selection::default()), "15 containers");
        assert_eq!(said(&[], &ours), "0 containers of project x");
    }

    #[test]
    fn every_other_way_to_be_left_out_is_counted_apart() {
        let mut list = of_project("x", 3);
        list.push(listed("a", &[("watchdog.enable", "false")]));
        list.push(listed("b", &[]));
        list.push(listed("x-s0-run-1", &[("com.docker.compose.oneoff", "True")]));
        let selection = Selection { exclude: vec!["s1".into(), "b".into()], ..Selection::default() };
        assert_eq!(
            said(&list, &selection),
            "2 containers and 1 job; 2 left out by docker.exclude; 1 left out by the label watchdog.enable=false"
        );
        list.push(listed("c", &[("watchdog.severity", "urgent")]));
        assert!(said(&list, &selection).ends_with("; a label of 1 container cannot be used: watchdog.severity"));
        let lost = Census { lost: 7, ..Census::of(&list, &selection) };
        assert!(lost.words(&selection).ends_with("7 ended with an error while too many did to be told one by one"));
        let one = Selection { project: Some("y".into()), ..Selection::default() };
        assert_eq!(
            said(&list[..1], &one),
            "0 containers of project y; 1 other is not watched: docker.containers = [\"*\"]"
        );
    }
}
