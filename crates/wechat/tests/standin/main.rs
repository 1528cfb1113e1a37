//! The API and the account token, against the stand-in.

mod account_token;
mod api;
mod support;
