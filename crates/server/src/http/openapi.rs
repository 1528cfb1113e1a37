//! `/openapi.json`: the API described by the code that serves it.
//!
//! A call's path, method and schemas are written at its handler (`#[utoipa::path]`) and registered with its route in one
//! step, so that neither is there without the other. What every call shares, the key and the errors, is added here.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Paths, Ref, RefOr,
    ResponseBuilder, SecurityRequirement,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::problem::Members;

const ABOUT: &str = "Rings browsers: pushes to the pages of a uid, and says truthfully what became of them. Errors are \
     problems (RFC 9457) with a stable `type`. docs/PROTOCOL.md says more.";

/// The description of calls that need a key and of those that do not.
pub(super) fn describe(mut guarded: OpenApi, open: OpenApi) -> OpenApi {
    for operation in operations(&mut guarded.paths) {
        let keys = ["bearer", "x_api_key"].map(|scheme| SecurityRequirement::new(scheme, [] as [&str; 0]));
        operation.security = Some(keys.to_vec());
        refuse(operation, "401", "no key, or one that does not work");
    }
    let mut schemes = ComponentsBuilder::new();
    schemes = schemes.security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let header = ApiKeyValue::with_description("X-API-Key", "looked at when there is no `Authorization`");
    schemes = schemes.security_scheme("x_api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    schemes = schemes.schema(Members::name(), Members::schema());
    let info = InfoBuilder::new()
        .title("Doorbell")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))));
    let mut document = OpenApiBuilder::new().info(info).components(Some(schemes.build())).build();
    document.merge(guarded);
    document.merge(open);
    for (path, item) in &mut document.paths.paths {
        for operation in methods(item) {
            if operation.request_body.is_some() {
                refuse(operation, "400", "the body is not of this call's shape, or says what cannot be");
                refuse(operation, "408", "the body did not come in time");
                refuse(operation, "413", "the body is larger than limits.body");
            }
            if path.contains('{') {
                refuse(operation, "400", "the path names no uid, group or connection");
            }
        }
    }
    document
}

/// Adds an error answer, unless the handler's own says more about that status.
fn refuse(operation: &mut Operation, status: &str, what: &str) {
    let problem = RefOr::Ref(Ref::from_schema_name(Members::name()));
    let content = ContentBuilder::new().schema(Some(problem)).build();
    let response = ResponseBuilder::new().description(what).content("application/problem+json", content);
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.build().into());
}

fn operations(paths: &mut Paths) -> impl Iterator<Item = &mut Operation> {
    paths.paths.values_mut().flat_map(methods)
}

fn methods(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

/// The text of the description, written once.
#[derive(Debug, Clone)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn new(document: &OpenApi) -> Self {
        // Texts, numbers and maps of them always serialize.
        Self(document.to_pretty_json().unwrap_or_default().into())
    }
}

/// Describes these calls, as OpenAPI 3.1
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "this description", body = serde_json::Value)))]
pub(super) async fn document(Extension(Document(text)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}
