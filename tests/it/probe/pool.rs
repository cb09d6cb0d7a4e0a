//! How the pool shares its workers: who waits for whom, how many there are, and when the loop is woken.

use super::*;

#[test]
fn a_hung_target_never_delays_another() {
    let silent = Peer::start(Manner::Hang);
    let healthy = Peer::start(Manner::answer("200 OK", "ok"));
    let clock = Clock::system();
    let outfit = outfit(&clock);
    let mut text = String::new();
    for n in 0..150 {
        let (kind, peer, limit) = if n % 3 == 2 { ("up", &healthy, "5s") } else { ("hung", &silent, "2s") };
        let keys = format!("interval = \"200ms\"\ntimeout = \"{limit}\"");
        writeln!(text, "[[probe]]\nname = \"{kind}-{n}\"\ntarget = \"{}/\"\n{keys}", peer.url()).unwrap();
    }
    let mut source = source(&text, &outfit);
    let mut looks: BTreeMap<String, Vec<Mono>> = BTreeMap::new();
    let begun = Instant::now();
    let (mut longest, mut report) = (Duration::ZERO, Report::default());
    while begun.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        report = source.observe(&ask(&clock)).unwrap();
        longest = longest.max(asked.elapsed());
        assert_eq!(report.blind, None);
        for seen in report.observations.iter().filter(|o| o.reading == Reading::Up) {
            let seen_at = looks.entry(seen.spec.key.to_string()).or_default();
            if seen_at.last() != Some(&seen.seen_at) {
                seen_at.push(seen.seen_at);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(longest < Duration::from_millis(500), "a question took {longest:?}");
    assert_eq!(looks.len(), 50, "every healthy one is up");
    for (key, seen_at) in &looks {
        let gap = seen_at.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default();
        assert!(gap < Duration::from_millis(1500), "{key} was not looked at for {gap:?}");
        assert!(seen_at.len() >= 15, "{key}: {} looks in 6 s at 200 ms", seen_at.len());
    }
    let down = report.observations.iter().filter(|o| o.reading == Reading::Down).count();
    assert_eq!(down, 100, "every hung one is told as down");
}

fn probes(text: &str, outfit: &Outfit, bounds: Bounds) -> Probes {
    let (list, groups) = read::probes(&Config::from_toml(text).unwrap(), outfit).unwrap();
    Probes::new(list, groups, outfit, bounds)
}

#[test]
fn at_its_bound_the_pool_says_so_and_never_grows_beyond_it() {
    let silent = Peer::start(Manner::Hang);
    let clock = Clock::system();
    let outfit = outfit(&clock);
    let mut text = String::new();
    for n in 0..20 {
        writeln!(
            text,
            "[[probe]]\nname = \"p{n}\"\ntarget = \"http://{}:{}/\"\ntimeout = \"30s\"\ninterval = \"100ms\"",
            // Two dependencies: one alone has half of the workers.
            ["127.0.0.1", "localhost"][n % 2],
            silent.port()
        )
        .unwrap();
    }
    let mut source = probes(&text, &outfit, Bounds { workers: 4, idle: Duration::from_millis(200) });
    let blind = wait("the pool to be late", || source.observe(&ask(&clock)).unwrap().blind);
    assert!(blind.starts_with("all 4 workers are busy with targets that hang"), "{blind}");
    assert_eq!((source.workers(), silent.connections()), (4, 4));
}

#[test]
fn a_pool_shrinks_when_nobody_hangs_any_more() {
    let hang = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (still, clock) = (Arc::clone(&hang), Clock::system());
    let pace = Pace { interval: Duration::from_millis(100), limit: Duration::from_mins(1), counts: 3 };
    let bounds = Bounds { workers: 64, idle: Duration::from_millis(300) };
    let look = move |_| {
        while still.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Verdict::up("fine")
    };
    let pool = Pool::new(vec![pace; 40], bounds, clock, look, || {});
    pool.hurry(Mono(0));
    wait("40 to hang", || (pool.workers() == 40).then_some(()));
    hang.store(false, std::sync::atomic::Ordering::SeqCst);
    wait("the pool to shrink", || (pool.workers() <= 4).then_some(()));
}

#[test]
fn the_loop_is_woken_for_changes_and_their_confirmation_only() {
    let turn = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let up = Arc::clone(&turn);
    let news = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&news);
    let looks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let looked = Arc::clone(&looks);
    let pace = Pace { interval: Duration::from_millis(5), limit: Duration::from_secs(5), counts: 3 };
    let look = move |_| {
        looked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if up.load(std::sync::atomic::Ordering::SeqCst) { Verdict::up("fine") } else { Verdict::down("gone") }
    };
    let rung = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let pool = Pool::new(vec![pace], Bounds::default(), Clock::system(), look, rung);
    let heard = || news.load(std::sync::atomic::Ordering::SeqCst);
    let further = |n: usize| {
        let before = looks.load(std::sync::atomic::Ordering::SeqCst);
        wait("more looks", || (looks.load(std::sync::atomic::Ordering::SeqCst) > before + n).then_some(()));
    };
    pool.hurry(Mono(0));
    further(10);
    assert_eq!(heard(), 1, "once, when everything was looked at");
    turn.store(false, std::sync::atomic::Ordering::SeqCst);
    further(10);
    assert_eq!(heard(), 4, "three times while it goes down");
    turn.store(true, std::sync::atomic::Ordering::SeqCst);
    further(10);
    assert_eq!(heard(), 7, "three times while it comes back");
}

#[test]
fn a_change_wakes_the_loop_by_the_sources_name_and_stale_results_are_not_handed_out() {
    let clock = Clock::system();
    let outfit = outfit(&clock);
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    let mut source = source(&format!("deps = [\"web={}/\"]", peer.url()), &outfit);
    assert!(!source.observe(&ask(&clock)).unwrap().complete);
    let wakes = outfit.waker.wait_until(Instant::now() + SOON);
    assert!(wakes.contains(&Wake::Look(Arc::from("probe"))), "{wakes:?}");
    let report = source.observe(&ask(&clock)).unwrap();
    assert!(report.complete && report.observations[0].reading == Reading::Up, "{report:?}");
    // After a suspend: what was seen before it counts no more, and is looked at again at once, not in 15 s.
    let since = clock.now().mono.plus(Duration::from_millis(1));
    wait("the clock to go on", || (clock.now().mono >= since).then_some(()));
    let later = || Ask { now: clock.now(), fresh_since: since, hurry_since: Mono(i64::MIN), once: false };
    let report = source.observe(&later()).unwrap();
    assert!(!report.complete && report.observations[0].reading == Reading::Unknown, "{report:?}");
    let begun = Instant::now();
    wait("a fresh look", || source.observe(&later()).unwrap().complete.then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(open_files() < 10_000);
}

#[test]
fn one_dependency_never_takes_more_than_half_of_the_workers() {
    let silent = Peer::start(Manner::Hang);
    let healthy = Peer::start(Manner::answer("200 OK", "ok"));
    let clock = Clock::system();
    let outfit = outfit(&clock);
    let mut text = String::new();
    for n in 0..30 {
        writeln!(text, "[[probe]]\nname = \"h{n}\"\ntarget = \"{}\"\ntimeout = \"30s\"", silent.url()).unwrap();
    }
    // Another address of the same machine: another dependency.
    let url = format!("http://localhost:{}/", healthy.port());
    writeln!(text, "[[probe]]\nname = \"up\"\ntarget = \"{url}\"\ninterval = \"100ms\"").unwrap();
    let mut source = probes(&text, &outfit, Bounds { workers: 8, idle: Duration::from_secs(1) });
    let mut seen = Vec::new();
    wait("the healthy one to be looked at again and again", || {
        let report = source.observe(&ask(&clock)).unwrap();
        let up = report.observations.iter().find(|o| o.spec.key.as_str() == "probe/up").unwrap();
        if up.reading == Reading::Up && seen.last() != Some(&up.seen_at) {
            seen.push(up.seen_at);
        }
        assert_eq!(report.blind, None);
        (seen.len() >= 10).then_some(())
    });
    assert_eq!(silent.connections(), 4, "half of eight workers");
}

#[test]
fn those_held_back_get_their_turn_when_their_dependency_answers_again() {
    let hang = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (still, clock) = (Arc::clone(&hang), Clock::system());
    let pace = Pace { interval: Duration::from_mins(10), limit: Duration::from_mins(1), counts: 1 };
    let bounds = Bounds { workers: 4, idle: Duration::from_secs(1) };
    let look = move |_| {
        while still.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Verdict::up("fine")
    };
    let names = vec![Some(Arc::from("db")); 20];
    let pool = Pool::new(vec![pace; 20], bounds, clock, look, || {}).sharing(names);
    pool.hurry(Mono(0));
    wait("all but two to be held back", || {
        let mut held_back = 0;
        pool.standings(|_, standing| held_back += usize::from(standing.is_held_back));
        (held_back == 18).then_some(())
    });
    hang.store(false, std::sync::atomic::Ordering::SeqCst);
    pool.settle(Instant::now() + SOON);
    let mut up = 0;
    pool.standings(|_, s| up += usize::from(s.last.is_some() && !s.is_held_back));
    assert_eq!(up, 20);
}

#[test]
fn hundreds_of_silent_servers_take_a_few_workers_and_no_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut held = Vec::new();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            held.push(stream);
        }
    });
    let clock = Clock::system();
    let mut text = String::new();
    for n in 0..300 {
        writeln!(text, "[[probe]]\nname = \"s{n}\"\ntarget = \"tcp://127.0.0.1:{port}\"\ninterval = \"1m\"").unwrap();
    }
    let mut source = probes(&text, &outfit(&clock), Bounds::default());
    let begun = Instant::now();
    let report = source.observe(&once(&clock)).unwrap();
    let took = begun.elapsed();
    let up = report.observations.iter().filter(|o| o.reading == Reading::Up).count();
    assert_eq!(up, 300, "{:?}", report.observations.iter().find(|o| o.reading != Reading::Up));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(source.workers() <= 16, "{} workers", source.workers());
}
