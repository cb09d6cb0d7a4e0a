//! What holds for every signal: what is told when it lasts, changes to and fro, cannot be checked, and is over; and how
//! several are told together.

use std::sync::Arc;

use watchdog::core::about::{About, Details};
use watchdog::core::edge::EdgeKind;
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Observation, Reading, Severity, SignalKey, Spec};
use watchdog::core::time::Mono;

use super::{Chapter, Scene, read};

fn spec(name: &str, severity: Severity, about: About) -> Arc<Spec> {
    let key = SignalKey::new(&format!("probe/{name}"));
    let about = About { name: name.into(), group: format!("http {name}.example.org").into(), ..about };
    Arc::new(Spec::new(key, format!("http {name}"), severity, Rule::counted(Test::Verdict)).about(about))
}

fn up(spec: &Arc<Spec>) -> Observation {
    Observation::new(spec, Mono(0), Reading::Up, "HTTP 200 in 12 ms")
}

fn down(spec: &Arc<Spec>) -> Observation {
    let fact = "HTTP 503 in 12 ms, expected 200–299";
    let advice =
        format!("curl -i 'https://{}.example.org/'; read the log of the service", spec.about.as_ref().unwrap().name);
    Observation::new(spec, Mono(0), Reading::Down, fact).with(Details::new("answers HTTP 503", advice))
}

fn unknown(spec: &Arc<Spec>) -> Observation {
    Observation::new(spec, Mono(0), Reading::Unknown, "looking up api.example.org took too long")
}

#[test]
fn what_is_told_of_every_signal() {
    let mut chapter = Chapter::new("Every signal");
    one(&mut chapter);
    several(&mut chapter);
    chapter.check();
}

fn one(chapter: &mut Chapter) {
    let api = spec("api", Severity::Critical, About::default());
    let mut scene = Scene::new();
    let mut until = |kind, see: &dyn Fn() -> Observation| scene.until(kind, "probe", || vec![see()]);
    chapter.show("it fails", &until(EdgeKind::Alert, &|| down(&api)));
    chapter.show("it still fails", &until(EdgeKind::Realert, &|| down(&api)));
    until(EdgeKind::Realert, &|| down(&api));
    chapter.show("the third reminder", &until(EdgeKind::Realert, &|| down(&api)));
    chapter.show("it is over", &until(EdgeKind::Recovery, &|| up(&api)));
    chapter.show("it cannot be checked", &until(EdgeKind::Unknown, &|| unknown(&api)));
    chapter.show("it can be checked again", &until(EdgeKind::Seen, &|| up(&api)));
    let flaps = Arc::new(Spec { rule: Rule { fail_after: 5, ..api.rule }, ..Spec::clone(&api) });
    let mut scene = Scene::new();
    let turn = std::cell::Cell::new(0);
    let see = || {
        turn.set(turn.get() + 1);
        vec![if turn.get() % 2 == 0 { down(&flaps) } else { up(&flaps) }]
    };
    chapter.show("it keeps going down and up", &scene.until(EdgeKind::Alert, "probe", see));
}

fn several(chapter: &mut Chapter) {
    // Those of one pass.
    let tell = |specs: &[Arc<Spec>]| -> String {
        let mut scene = Scene::new();
        for _ in 0..super::LOOKS {
            let edges = scene.see("probe", specs.iter().map(down).collect());
            if !edges.is_empty() {
                return read(edges, scene.world.now);
            }
        }
        panic!("nothing is told");
    };
    let about = || About { cause: "shop (192.0.2.80:443)".into(), peers: 3, ..About::default() };
    let named = |name: &str, about: About| spec(name, Severity::Critical, about);
    let one = [named("shop-api", about()), named("shop-page", about()), named("shop-cart", about())];
    chapter.show("several of one cause", &tell(&one));
    let warning = spec("wiki", Severity::Warning, About::default());
    chapter.show("two without a cause in common", &tell(&[named("api", About::default()), warning]));
    let many: Vec<Arc<Spec>> = (1..=12).map(|n| named(&format!("shop-{n:02}"), About::default())).collect();
    chapter.show("a storm", &tell(&many));
}
