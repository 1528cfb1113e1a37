//! Fields that several requests have: who, what.

use doorbell_protocol::Uid;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::api::Answer;
use super::problem::Problem;

/// A uid as JSON writes it: a string, or an integer that stands for its digits.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a uid is a string or an integer")]
pub(super) enum UidField {
    Text(String),
    Unsigned(u64),
    Signed(i64),
}

impl UidField {
    pub(super) fn uid(&self) -> Answer<Uid> {
        let uid = match self {
            Self::Text(text) => Uid::new(text),
            Self::Unsigned(number) => Uid::new(&number.to_string()),
            Self::Signed(number) => Uid::new(&number.to_string()),
        };
        uid.map_err(|error| Problem::bad_request("uid", error.to_string()))
    }
}

impl ToSchema for UidField {
    fn name() -> std::borrow::Cow<'static, str> {
        "Uid".into()
    }
}

impl PartialSchema for UidField {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(i64::MIN))
            .maximum(Some(u64::MAX))
            .description(Some("stands for its digits"));
        let about = "Who is behind a connection: 1 to 128 bytes of UTF-8.";
        OneOfBuilder::new().item(text).item(number).description(Some(about)).into()
    }
}

/// Any JSON value, `null` too.
pub(super) fn any_json() -> Schema {
    let about = "What the page gets: any JSON value. A plain connection gets a string as itself.";
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(about)).into()
}

/// An IP address of either kind, or `null` for none.
pub(super) fn any_ip() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let of = |format| text().format(Some(SchemaFormat::KnownFormat(format)));
    let none = ObjectBuilder::new().schema_type(Type::Null);
    AnyOfBuilder::new().item(of(KnownFormat::Ipv4)).item(of(KnownFormat::Ipv6)).item(none).into()
}

/// An object of which exactly one of two fields is required, though its type has both as an `Option`.
pub(super) fn either(object: RefOr<Schema>, [first, second]: [&str; 2]) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(object)) = object else { return object };
    let with_first = with(without(object.clone(), second), first);
    let with_second = with(without(object, first), second);
    OneOfBuilder::new().item(with_first).item(with_second).into()
}

/// An object of which two fields exclude each other, though its type has both as an `Option`.
pub(super) fn not_both(object: RefOr<Schema>, [first, second]: [&str; 2]) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(object)) = object else { return object };
    let without_second = without(object.clone(), second);
    let with_second = with(without(object, first), second);
    OneOfBuilder::new().item(without_second).item(with_second).into()
}

/// An object with an optional field required.
fn with(mut object: Object, field: &str) -> Object {
    object.properties.entry(field.to_owned()).and_modify(|schema| *schema = not_null(schema.clone()));
    object.required.push(field.to_owned());
    object
}

/// An object without an optional field, for which `null` stands too.
fn without(mut object: Object, field: &str) -> Object {
    let null = ObjectBuilder::new().schema_type(Type::Null).into();
    object.properties.entry(field.to_owned()).and_modify(|schema| *schema = null);
    object
}

/// What an `Option` is described as, without the `null`.
fn not_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let only = |kind: &SchemaType| match kind {
        SchemaType::Array(types) => types
            .iter()
            .find(|kind| **kind != Type::Null)
            .map_or_else(|| SchemaType::Array(types.clone()), |kind| SchemaType::Type(kind.clone())),
        kind => kind.clone(),
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.schema_type = only(&object.schema_type);
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.schema_type = only(&array.schema_type);
            RefOr::T(Schema::Array(array))
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
            let given = one_of.items.iter().find(|item| !is_null(item)).cloned();
            given.unwrap_or(RefOr::T(Schema::OneOf(one_of)))
        }
        other => other,
    }
}

/// Tells `null`, which is data, from no data at all.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}
