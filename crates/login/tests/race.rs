//! Many want the same login at the same moment.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbell_login::{Handle, RedeemError, Refusal, State, Step};
use support::{VERIFIER, address, at_once, begin, client, page, person, phone, redeem, visit, with_client};

/// T7 for the state machine alone; over the wire it is in `crates/server/tests/login_threats.rs`.
#[test]
fn one_of_many_parallel_answers_wins_and_the_state_is_final_once() {
    let mut endings = std::collections::HashMap::new();
    for round in 0..1_000_u64 {
        let (logins, told) = with_client(client());
        let begun = begin(&logins, address(1), 0);
        let qr = begun.view.qr.expect("a token");
        let (qr, device) = (qr.expose(), begun.device_code.expose());
        at_once(logins.scan(qr, phone(0), 10)).expect("the first");
        let start = Barrier::new(6);
        let wins = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for actor in 0..6_u64 {
                let (logins, start, wins) = (&logins, &start, &wins);
                scope.spawn(move || {
                    start.wait();
                    // One of the clocks has passed the deadline.
                    let now = if actor == 5 { 60_011 } else { 20 };
                    let won = match (actor + round) % 5 {
                        0 | 1 => at_once(logins.approve(qr, &visit(0), None, person(0), now)).map(drop),
                        2 => at_once(logins.deny(qr, &visit(0), None, now)).map(drop),
                        3 => at_once(logins.cancel(page(device), now)).map(drop),
                        _ => at_once(logins.scan(qr, phone(1), now)).map(drop),
                    };
                    match won {
                        Ok(()) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                        Err(
                            Refusal::Over(_)
                            | Refusal::AlreadyScanned
                            | Refusal::WrongState(_)
                            | Refusal::Unknown,
                        ) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                });
            }
        });
        let told = told.0.lock();
        let finals = told.iter().filter(|(attempt, step)| attempt.state.is_final() && *step != Step::Revoked);
        let versions: Vec<u64> = told.iter().map(|(attempt, _)| attempt.version).collect();
        let mut sorted = versions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), versions.len(), "one step a version");
        assert!(finals.count() <= 1, "round {round}: more than one ending");
        let (last, _) = told.iter().max_by_key(|(attempt, _)| attempt.version).expect("it began");
        *endings.entry(last.state).or_insert(0) += 1;
    }
    assert!(endings.len() >= 3, "the rounds differ: {endings:?}");
}

#[test]
fn one_of_a_hundred_parallel_redemptions_succeeds_and_the_others_end_what_it_gave() {
    for _ in 0..50 {
        let (logins, _) = with_client(client());
        let begun = begin(&logins, address(1), 0);
        let qr = begun.view.qr.expect("a token");
        at_once(logins.scan(qr.expose(), phone(0), 10)).expect("the first");
        at_once(logins.approve(qr.expose(), &visit(0), None, person(0), 20)).expect("the owner");
        let code = logins.keys().code(begun.view.login);
        let (start, good) = (Barrier::new(100), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..100 {
                let (logins, start, good, code, device) = (&logins, &start, &good, &code, &begun.device_code);
                scope.spawn(move || {
                    let handle = if number % 2 == 0 {
                        Handle::Code(code.expose())
                    } else {
                        Handle::DeviceCode(device.expose())
                    };
                    start.wait();
                    match redeem(logins, handle, Some(VERIFIER), 30) {
                        Ok(redeemed) => {
                            assert_eq!(redeemed.identity, person(0));
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(RedeemError::Reused(ended)) => assert_eq!(ended.id, begun.view.login),
                        Err(other) => panic!("{other:?}"),
                    }
                });
            }
        });
        assert_eq!(good.load(Ordering::Relaxed), 1);
        let attempt = at_once(logins.inspect(begun.view.login)).expect("in memory").expect("remembered");
        assert_eq!(attempt.state, State::Consumed);
        assert!(attempt.session.as_ref().is_some_and(|session| session.revoked));
    }
}
