//! Logins that are taken through: begin, watch, scan, approve, told, redeem.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::page::{Browser, VERIFIER};
use super::{LoginPlan, THREADS};
use crate::clock::wait_until;
use crate::histogram::Histogram;
use crate::http::ApiClient;
use crate::target::Api;

/// Every how many logins the result is asked for once more.
const SAMPLE: u64 = 10;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Begun,
    Scanned,
    Approved,
    Told,
    Redeemed,
    RefusedAgain,
    Lost,
    Doubled,
    Misdelivered,
    Failed,
}

impl Kind {
    /// How far logins have come.
    pub(super) const STEPS: [Self; 6] =
        [Self::Begun, Self::Scanned, Self::Approved, Self::Told, Self::Redeemed, Self::RefusedAgain];
    /// What must not be.
    pub(super) const FAULTS: [Self; 4] = [Self::Lost, Self::Doubled, Self::Misdelivered, Self::Failed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Scanned => "scanned",
            Self::Approved => "approved",
            Self::Told => "told to their own page",
            Self::Redeemed => "redeemed",
            Self::RefusedAgain => "asked for again and refused",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Misdelivered => "misdelivered",
            Self::Failed => "that could not begin",
        }
    }
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    counts: [u64; 10],
    /// From sending the approval to reading the code.
    pub(super) told: Histogram,
    /// From when a login was due to its result.
    pub(super) whole: Histogram,
    pub(super) elapsed: Duration,
    pub(super) first_error: Option<String>,
}

impl Flows {
    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    fn note(&mut self, kind: Kind) {
        self.counts[kind as usize] += 1;
    }

    /// One of each.
    #[cfg(test)]
    pub(super) fn counting(kinds: &[Kind]) -> Self {
        let mut flows = Self::default();
        kinds.iter().for_each(|kind| flows.note(*kind));
        flows
    }

    fn add(&mut self, other: Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.told += &other.told;
        self.whole += &other.whole;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Takes logins through at the plan's rate. Late ones follow at once, so the rate is what was done, not what was asked.
pub(super) fn run(browser: &Browser, api: &Api, plan: &LoginPlan) -> anyhow::Result<Flows> {
    let total = u64::from(plan.rate) * plan.duration.as_millis().try_into().unwrap_or(u64::MAX) / 1_000;
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let mut flows = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut flows = Flows::default();
                    let mut api = ApiClient::connect(api)?;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= total {
                            return anyhow::Ok(flows);
                        }
                        let due =
                            start + Duration::from_secs(1).mul_f64(number as f64 / f64::from(plan.rate));
                        wait_until(due);
                        let begun = flows.of(Kind::Begun);
                        match take_through(browser, &mut api, number, &mut flows) {
                            Ok(()) => flows.whole.record(due.elapsed()),
                            Err(error) => {
                                let lost = flows.of(Kind::Begun) > begun;
                                flows.note(if lost { Kind::Lost } else { Kind::Failed });
                                flows.first_error.get_or_insert_with(|| format!("{error:#}"));
                            }
                        }
                    }
                })
            })
            .collect();
        let mut flows = Flows::default();
        for thread in threads {
            flows.add(thread.join().unwrap_or_else(|_| bail!("a thread panicked"))?);
        }
        anyhow::Ok(flows)
    })?;
    flows.elapsed = start.elapsed();
    Ok(flows)
}

/// One login of the person of that number. An error is a step that did not come about.
fn take_through(
    browser: &Browser,
    api: &mut ApiClient,
    number: u64,
    flows: &mut Flows,
) -> anyhow::Result<()> {
    let index = usize::try_from(number).unwrap_or_default();
    let person = format!("p{number}");
    let begun = browser.begin(index).context("begin")?;
    flows.note(Kind::Begun);
    let mut page = browser.watch(&begun, index).context("watch")?;
    let first = page.next().context("waiting for `pending`")?;
    if first["login"] != begun.login || first["state"] != "pending" {
        bail!("a login that has just begun is {first}");
    }
    let uid = json!({ "uid": person }).to_string();
    api.post(&format!("/v1/logins/{}/scan", begun.qr), uid.as_bytes()).context("scan")?;
    flows.note(Kind::Scanned);

    let path = format!("/v1/logins/{}/approve", begun.qr);
    let sent = Instant::now();
    api.send_post(&path, uid.as_bytes())?;
    // The page is listened to before the answer is, so that what it waits for is its own message.
    let code = loop {
        let envelope = page.next().context("waiting for `approved`")?;
        if envelope["login"] != begun.login {
            flows.note(Kind::Misdelivered);
        } else if envelope["state"] == "approved" {
            break envelope["code"].as_str().context("`approved` without a code")?.to_owned();
        }
    };
    flows.told.record(sent.elapsed());
    flows.note(Kind::Told);
    api.answer_to(&path).context("approve")?;
    flows.note(Kind::Approved);

    let redeem =
        json!({ "code": code, "code_verifier": VERIFIER, "client_id": browser.client_id }).to_string();
    let result = api.post("/v1/redeem", redeem.as_bytes()).context("redeem")?;
    flows.note(Kind::Redeemed);
    if result["login"] != begun.login || result["identity"]["id"] != person {
        flows.note(Kind::Misdelivered);
    }
    // What was told twice lies before `consumed`: a connection keeps its order.
    loop {
        let envelope = page.next().context("waiting for `consumed`")?;
        if envelope["login"] != begun.login {
            flows.note(Kind::Misdelivered);
        } else if envelope["state"] == "consumed" {
            break;
        } else {
            flows.note(Kind::Doubled);
        }
    }
    if number.is_multiple_of(SAMPLE) {
        api.send_post("/v1/redeem", redeem.as_bytes())?;
        match api.status()? {
            409 => flows.note(Kind::RefusedAgain),
            200 => flows.note(Kind::Doubled),
            status => bail!("asked for again, the result is {status}"),
        }
    }
    Ok(())
}
