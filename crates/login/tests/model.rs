//! Random requests at random times against a model of the state machine, and the invariants after each.

mod support;

use std::collections::HashMap;

use doorbell_login::{
    Client, Consent, Handle, LoginId, NUMBER_TRIES, NumberMatch, RedeemError, Refusal, Rules, State, Step,
    Token,
};
use proptest::prelude::*;
use support::{VERIFIER, address, at_once, begin, client, logins, page, person, phone, redeem, visit};

#[derive(Debug, Clone, Copy)]
enum Op {
    Wait(u64),
    Tick,
    Look,
    Watch,
    Rotate,
    /// With the current QR token, or the one before.
    Scan {
        phone: u8,
        old: bool,
    },
    Approve {
        phone: u8,
        number: Typed,
    },
    Ask {
        phone: u8,
        number: Typed,
    },
    ComeBack {
        phone: u8,
        refused: bool,
    },
    Deny {
        phone: u8,
    },
    Cancel,
    TypeNumber {
        right: bool,
    },
    Redeem {
        by_code: bool,
        right: bool,
    },
    Revoke,
}

#[derive(Debug, Clone, Copy)]
enum Typed {
    Nothing,
    Right,
    Wrong,
}

fn op() -> impl Strategy<Value = Op> {
    let typed = || prop_oneof![1 => Just(Typed::Nothing), 3 => Just(Typed::Right), 1 => Just(Typed::Wrong)];
    let phone = || 0..2_u8;
    prop_oneof![
        4 => (0..70_000_u64).prop_map(Op::Wait),
        4 => (0..3_000_u64).prop_map(Op::Wait),
        2 => Just(Op::Tick),
        1 => Just(Op::Look),
        1 => Just(Op::Watch),
        2 => Just(Op::Rotate),
        6 => (phone(), any::<bool>()).prop_map(|(phone, old)| Op::Scan { phone, old }),
        8 => (phone(), typed()).prop_map(|(phone, number)| Op::Approve { phone, number }),
        3 => (phone(), typed()).prop_map(|(phone, number)| Op::Ask { phone, number }),
        3 => (phone(), any::<bool>()).prop_map(|(phone, refused)| Op::ComeBack { phone, refused }),
        1 => phone().prop_map(|phone| Op::Deny { phone }),
        1 => Just(Op::Cancel),
        3 => any::<bool>().prop_map(|right| Op::TypeNumber { right }),
        5 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(by_code, right)| Op::Redeem { by_code, right }),
        1 => Just(Op::Revoke),
    ]
}

/// The specification, as small as it can be said.
#[derive(Debug)]
struct Model {
    state: State,
    deadline: u64,
    owner: Option<u8>,
    wrong: u8,
    released: bool,
    fetched: u32,
    errand: Option<u8>,
    number_match: NumberMatch,
}

impl Model {
    fn pass(&mut self, now: u64) {
        if !self.state.is_final() && self.deadline <= now {
            self.state = State::Expired;
            self.errand = None;
        }
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.errand = None;
    }

    /// Whether the phone may agree with this number; counts a wrong one.
    fn agrees(&mut self, phone: u8, number: Typed) -> bool {
        if self.state != State::Scanned || self.owner != Some(phone) {
            return false;
        }
        match number {
            _ if self.number_match != NumberMatch::ToPhone => true,
            Typed::Right => true,
            Typed::Nothing => false,
            Typed::Wrong => {
                self.miss();
                false
            }
        }
    }

    fn miss(&mut self) {
        self.wrong += 1;
        if self.wrong == NUMBER_TRIES {
            self.end(State::Denied);
        }
    }

    fn approve(&mut self, now: u64, rules: &Rules) {
        self.state = State::Approved;
        self.deadline = now + u64::try_from(rules.approved_ttl.as_millis()).expect("short");
        self.wrong = 0;
        self.errand = None;
        self.released = self.number_match != NumberMatch::ToBrowser;
    }
}

fn legal(from: State, step: Step, to: State) -> bool {
    use State::{Approved, Cancelled, Consumed, Denied, Expired, Pending, Scanned};
    match step {
        Step::Created | Step::Rotated | Step::OwnCode => (from, to) == (Pending, Pending),
        Step::Scanned => (from, to) == (Pending, Scanned),
        Step::SentToProvider | Step::CameBack => from == to && matches!(to, Pending | Scanned),
        Step::Approved => (from, to) == (Scanned, Approved),
        Step::Released => (from, to) == (Approved, Approved),
        Step::WrongNumber => from == to && matches!(to, Scanned | Approved),
        Step::Denied => to == Denied && !from.is_final(),
        Step::Expired => to == Expired && !from.is_final(),
        Step::Cancelled => to == Cancelled && !from.is_final(),
        Step::Consumed => (from, to) == (Approved, Consumed),
        Step::Revoked => (from, to) == (Consumed, Consumed),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_one_the_specification_allows(
        ops in proptest::collection::vec(op(), 1..40),
        number_match in prop_oneof![
            Just(NumberMatch::Off), Just(NumberMatch::ToPhone), Just(NumberMatch::ToBrowser)
        ],
    ) {
        let client = Client { number_match, ..client() };
        let (logins, told) = logins(Rules { clients: vec![client], ..Rules::default() });
        let rules = logins.rules();
        let mut now = 5_000;
        let begun = begin(&logins, address(0xc000_0202), now);
        let device = begun.device_code.expose().to_owned();
        let id: LoginId = begun.view.login;
        let mut qr = begun.view.qr.clone().expect("a token");
        let mut before: Option<Token> = None;
        let mut state_param: Option<Token> = None;
        let mut model = Model {
            state: State::Pending, deadline: now + 120_000, owner: None, wrong: 0, released: false, fetched: 0,
            errand: None, number_match,
        };
        for op in ops {
            model.pass(now);
            let number = |typed| match typed {
                Typed::Nothing => None,
                Typed::Right => Some(logins.keys().number_to_phone(id)),
                Typed::Wrong => Some("1x".to_owned()),
            };
            match op {
                Op::Wait(ms) => now += ms,
                Op::Tick => { at_once(logins.tick(now)).expect("in memory"); }
                Op::Look => {
                    let looked = at_once(logins.look(qr.expose(), Some(&visit(0)), address(1), now));
                    if let Ok(view) = looked {
                        prop_assert_eq!(view.state, model.state);
                        prop_assert!(view.digits.is_none() || (model.owner == Some(0) && !model.released));
                    }
                }
                Op::Watch => {
                    if let Ok((attempt, view)) = at_once(logins.current(page(&device), now)) {
                        prop_assert_eq!((attempt.state, view.state), (model.state, model.state));
                        prop_assert_eq!(view.code.is_some(), model.state == State::Approved && model.released);
                    }
                }
                Op::Rotate => {
                    let rotated = at_once(logins.rotate(page(&device), now)).is_ok();
                    prop_assert!(!rotated || model.state == State::Pending);
                }
                Op::Scan { phone: number, old } => {
                    let token = before.clone().filter(|_| old).unwrap_or_else(|| qr.clone());
                    let scanned = at_once(logins.scan(token.expose(), phone(number), now));
                    match (&scanned, model.state) {
                        (Ok(_), State::Pending) => {
                            model.state = State::Scanned;
                            model.owner = Some(number);
                            model.deadline = now + 60_000;
                        }
                        (Ok(_), State::Scanned | State::Approved) => prop_assert_eq!(model.owner, Some(number)),
                        (Ok(_), state) => prop_assert!(false, "scanned when {state:?}"),
                        (Err(Refusal::AlreadyScanned), _) => prop_assert!(model.owner != Some(number)),
                        (Err(Refusal::Renewed), _) => {}
                        (Err(_), state) => prop_assert!(state.is_final(), "{scanned:?} when {state:?}"),
                    }
                }
                Op::Approve { phone, number: typed } => {
                    let was = model.state == State::Approved && model.owner == Some(phone);
                    let may = model.agrees(phone, typed);
                    let number = number(typed);
                    let visit = visit(phone);
                    let approved =
                        at_once(logins.approve(qr.expose(), &visit, number.as_deref(), person(phone), now));
                    prop_assert_eq!(approved.is_ok(), may || was, "{:?}", approved);
                    if may {
                        model.approve(now, &rules);
                    }
                }
                Op::Ask { phone, number: typed } => {
                    let was = model.state == State::Approved && model.owner == Some(phone);
                    let may = model.agrees(phone, typed);
                    let number = number(typed);
                    let asked =
                        at_once(logins.agree_by(qr.expose(), &visit(phone), number.as_deref(), "demo", now));
                    prop_assert_eq!(asked.is_ok(), may || was, "{:?}", asked);
                    if let Ok(Consent::Ask(state)) = asked {
                        state_param = Some(state);
                        model.errand = Some(phone);
                    }
                }
                Op::ComeBack { phone, refused } => {
                    let Some(state) = &state_param else { continue };
                    let back = at_once(logins.came_back(state.expose(), &visit(phone), "demo", now));
                    prop_assert_eq!(back.is_ok(), model.errand == Some(phone), "{:?}", back);
                    let again = at_once(logins.came_back(state.expose(), &visit(phone), "demo", now));
                    prop_assert!(again.is_err(), "a state works once");
                    if let Ok(back) = back {
                        model.errand = None;
                        let origin = phone_origin();
                        if refused {
                            prop_assert!(at_once(logins.deny_returned(&back, now)).is_ok());
                            model.end(State::Denied);
                        } else {
                            let identity = person(phone);
                            prop_assert!(at_once(logins.approve_returned(&back, origin, identity, now)).is_ok());
                            model.approve(now, &rules);
                        }
                    }
                }
                Op::Deny { phone } => {
                    let may = !model.state.is_final() && model.owner.is_none_or(|owner| owner == phone);
                    let was = model.state == State::Denied;
                    let denied = at_once(logins.deny(qr.expose(), &visit(phone), None, now)).is_ok();
                    prop_assert!(denied == may || (denied && was));
                    if may {
                        model.end(State::Denied);
                    }
                }
                Op::Cancel => {
                    let may = !model.state.is_final();
                    let cancelled = at_once(logins.cancel(page(&device), now)).is_ok();
                    prop_assert!(cancelled == may || model.state == State::Cancelled || gone(&logins, id));
                    if may {
                        model.end(State::Cancelled);
                    }
                }
                Op::TypeNumber { right } => {
                    let number = if right { logins.keys().number_to_browser(id) } else { "12345".to_owned() };
                    let typed = at_once(logins.type_number(page(&device), &number, now)).is_ok();
                    let asked = number_match == NumberMatch::ToBrowser && model.state == State::Approved;
                    prop_assert_eq!(typed, asked && (model.released || right));
                    if asked && !model.released {
                        if right { model.released = true } else { model.miss() }
                    }
                }
                Op::Redeem { by_code, right } => {
                    let code = logins.keys().code(id);
                    let handle = if by_code { Handle::Code(code.expose()) } else { Handle::DeviceCode(&device) };
                    let verifier = if right { VERIFIER } else { "wrong" };
                    let redeemed = redeem(&logins, handle, Some(verifier), now);
                    let may = model.state == State::Approved && model.released && right;
                    prop_assert_eq!(redeemed.is_ok(), may, "{:?} when {:?}", redeemed, model);
                    if !right {
                        prop_assert_eq!(redeemed.err(), Some(RedeemError::Invalid));
                    } else if may {
                        let owner = model.owner.expect("approved by somebody");
                        prop_assert_eq!(redeemed.expect("just asserted").identity, person(owner));
                        model.fetched += 1;
                        model.end(State::Consumed);
                    }
                    for stolen in [qr.expose(), "l_000000000000000000000000"] {
                        for handle in [Handle::Code(stolen), Handle::DeviceCode(stolen)] {
                            let taken = redeem(&logins, handle, Some(VERIFIER), now);
                            prop_assert_eq!(taken.err(), Some(RedeemError::Invalid));
                        }
                    }
                }
                Op::Revoke => {
                    let revoked = at_once(logins.revoke(id, doorbell_login::Who::Backend, now)).is_ok();
                    prop_assert!(revoked == (model.state == State::Consumed) || gone(&logins, id));
                }
            }
            prop_assert!(model.fetched <= 1, "fetched twice");
            model.pass(now);
            // What the clock has not said yet it says now.
            if let Ok((attempt, view)) = at_once(logins.current(page(&device), now)) {
                prop_assert_eq!(attempt.state, model.state, "after {:?}", op);
                if let Some(token) = view.qr && token != qr {
                    before = Some(std::mem::replace(&mut qr, token));
                }
            } else {
                prop_assert!(gone(&logins, id) && model.state.is_final());
            }
        }
        check_history(&told.0.lock())?;
    }
}

fn gone(logins: &doorbell_login::Logins<doorbell_login::MemoryStore>, id: LoginId) -> bool {
    at_once(logins.inspect(id)).expect("in memory").is_none()
}

fn phone_origin() -> doorbell_login::Origin {
    doorbell_login::Origin::new(address(0xc000_0201), "phone")
}

/// I1, I2, I4, I7 and I8, on everything that was told.
fn check_history(told: &[(std::sync::Arc<doorbell_login::Attempt>, Step)]) -> Result<(), TestCaseError> {
    let mut last: HashMap<LoginId, &doorbell_login::Attempt> = HashMap::new();
    for (attempt, step) in told {
        let record = attempt.audit.last().expect("every step leaves a record");
        prop_assert_eq!((record.step, record.to, record.version), (*step, attempt.state, attempt.version));
        prop_assert!(legal(record.from, *step, record.to), "{:?}", record);
        match last.get(&attempt.id) {
            None => prop_assert_eq!((attempt.version, *step), (1, Step::Created)),
            Some(before) => {
                prop_assert_eq!(attempt.version, before.version + 1, "one version a step");
                prop_assert_eq!(record.from, before.state);
                if attempt.state == before.state {
                    prop_assert_eq!(attempt.deadline, before.deadline, "deadlines stay");
                }
                if let Some(phone) = &before.phone {
                    let same = attempt.phone.as_ref().is_some_and(|now| now.visit == phone.visit);
                    prop_assert!(same, "the owner never changes");
                }
            }
        }
        if matches!(attempt.state, State::Approved | State::Consumed) {
            prop_assert!(attempt.identity.is_some() && attempt.phone.is_some());
        }
        last.insert(attempt.id, attempt);
    }
    Ok(())
}
