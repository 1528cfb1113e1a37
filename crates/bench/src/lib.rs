//! A load generator for push servers, and the physical floor it compares them with.
//!
//! Three processes take part, so that each has its own descriptor table and its own CPU account:
//! the server under test, a *fleet* of clients, and a *floor* that writes ready frames to raw
//! sockets. The fleet and the floor are this program started again with a hidden subcommand
//! ([`run_child`]); their parent talks to them by lines on stdin and stdout and they end when
//! their stdin closes. Pushes and broadcasts are made by the parent. [`run_suite`] is `doorbell bench`, [`run_standard`] the
//! set with budgets that the project's own recipe runs.
//!
//! Nothing is taken on trust: every payload names its uid and carries a sequence number, and a run
//! in which a frame was lost, doubled or misdelivered is a failed run, whatever its speed.

mod channel;
mod child;
mod churn;
mod client;
mod clock;
mod crowd;
mod fleet;
mod floor;
mod histogram;
mod http;
mod link;
mod login;
mod outcome;
mod payload;
mod procfs;
mod push;
mod report;
mod scenario;
mod server;
mod standard;
mod suite;
mod tally;
mod target;
mod template;
mod tls;

pub use child::{ChildCommand, ChildKind, run_child};
pub use churn::{ChurnPlan, Churned};
pub use fleet::{Fleet, FleetOptions, Latency, Opened};
pub use floor::Floor;
pub use histogram::Histogram;
pub use http::Broadcaster;
pub use outcome::Outcome;
pub use procfs::{CpuTime, Memory, cpu_time, descriptors, memory};
pub use push::{Numbering, Pace, PushOutcome, PushPlan, push};
pub use report::{Figure, Report, Row};
pub use scenario::{Delivery, Measured, fanout, floor_answers, floor_fanout, floor_push, idle, pushes};
pub use server::{Server, ServerCommand};
pub use standard::{StandardOptions, run_standard};
pub use suite::{Scenario, SuiteOptions, run_suite};
pub use tally::Tally;
pub use target::{
    Api, Conversation, Endpoint, Logins, Post, Protocol, Publish, PublishToAll, Subscribe, Target,
};
pub use template::Template;
