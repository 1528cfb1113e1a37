//! Where an address is, by a database in MaxMind's format, such as GeoLite2 City or DB-IP City Lite.
//!
//! The file is read once, whole. What it says is a hint for people: nothing is allowed or refused by it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

/// A database of places.
#[derive(Debug)]
pub struct Places {
    reader: Reader<Vec<u8>>,
}

/// A place, in the words of one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The country by ISO 3166-1, such as `DE`; the same in every language.
    pub(crate) country: Option<String>,
    /// City and country, as far as the database knows them.
    pub(crate) name: String,
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} is no database of places", path.display())]
pub struct PlacesError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: MaxMindDbError,
}

/// What is read of a record of the City and Country databases.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    city: Option<Named<'a>>,
    #[serde(borrow)]
    country: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Option<Names<'a>>,
}

#[derive(Deserialize)]
struct Names<'a> {
    en: Option<&'a str>,
    #[serde(rename = "zh-CN")]
    zh: Option<&'a str>,
}

impl Places {
    /// Reads a database.
    ///
    /// # Errors
    /// When the file cannot be read or is of another format.
    pub fn open(path: &Path) -> Result<Self, PlacesError> {
        Reader::open_readfile(path)
            .map(|reader| Self { reader })
            .map_err(|source| PlacesError { path: path.to_owned(), source })
    }

    /// Where the address is; `None` for private networks and whatever else the database leaves out. A damaged record
    /// is one it leaves out.
    pub(crate) fn of(&self, address: IpAddr, chinese: bool) -> Option<Place> {
        let record: Record<'_> = self.reader.lookup(address.to_canonical()).ok()?.decode().ok()??;
        let name = |named: &Option<Named<'_>>| {
            let names = named.as_ref()?.names.as_ref()?;
            let name = if chinese { names.zh.or(names.en) } else { names.en.or(names.zh) };
            name.map(ToOwned::to_owned)
        };
        let country = record.country.as_ref().and_then(|country| country.iso_code).map(ToOwned::to_owned);
        let parts = [name(&record.city), name(&record.country).or_else(|| country.clone())];
        // From the large to the small in Chinese, the other way round in English.
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        if chinese {
            parts.reverse();
        }
        let name = parts.join(if chinese { " " } else { ", " });
        (!name.is_empty()).then_some(Place { country, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with one /8, by the format's specification 2.0: a search tree of 24-bit records, 16 zero bytes, the
    /// data, a marker, and the metadata.
    fn database(network: u8, record: &[u8]) -> Vec<u8> {
        const NODES: u8 = 8;
        let record_at = NODES + 16;
        let mut tree = Vec::new();
        for depth in 0..NODES {
            let last = depth == NODES - 1;
            let next = if last { record_at } else { depth + 1 };
            let bit = network >> (7 - depth) & 1;
            let sides = if bit == 0 { [next, NODES] } else { [NODES, next] };
            tree.extend(sides.iter().flat_map(|side| [0, 0, *side]));
        }
        let metadata = map(&[
            ("binary_format_major_version", vec![0xa1, 2]),
            ("binary_format_minor_version", vec![0xa1, 0]),
            ("build_epoch", vec![0x01, 0x02, 1]),
            ("database_type", text("Test-City")),
            ("description", map(&[])),
            ("ip_version", vec![0xa1, 4]),
            ("languages", vec![0x00, 0x04]),
            ("node_count", vec![0xc1, NODES]),
            ("record_size", vec![0xa1, 24]),
        ]);
        [&tree[..], &[0; 16], record, b"\xab\xcd\xefMaxMind.com", &metadata].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        assert!(text.len() < 29, "longer ones have another form");
        [&[0x40 | byte(text.len())][..], text.as_bytes()].concat()
    }

    fn byte(length: usize) -> u8 {
        length.try_into().expect("short")
    }

    fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0xe0 | byte(pairs.len())];
        for (key, value) in pairs {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        bytes
    }

    fn places(bytes: &[u8]) -> Result<Places, PlacesError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        Places::open(file.path())
    }

    #[test]
    fn an_address_has_a_place_in_both_languages() {
        let names = |en: &str, zh: &str| map(&[("en", text(en)), ("zh-CN", text(zh))]);
        let record = map(&[
            ("city", map(&[("names", names("Berlin", "柏林"))])),
            ("country", map(&[("iso_code", text("DE")), ("names", names("Germany", "德国"))])),
        ]);
        let places = places(&database(203, &record)).expect("reads");
        let place = |address: &str, chinese| places.of(address.parse().expect("an address"), chinese);
        let berlin = Place { country: Some("DE".into()), name: "Berlin, Germany".into() };
        assert_eq!(place("203.0.113.9", false), Some(berlin.clone()));
        assert_eq!(place("::ffff:203.0.113.9", false), Some(berlin));
        assert_eq!(place("203.0.113.9", true).map(|place| place.name).as_deref(), Some("德国 柏林"));
        assert_eq!(place("192.168.0.1", false), None);
        assert_eq!(place("2001:db8::1", false), None);
    }

    #[test]
    fn a_record_may_know_the_country_alone_or_nothing() {
        let country = map(&[("country", map(&[("iso_code", text("DE"))]))]);
        let of =
            |record: &[u8]| places(&database(203, record)).expect("reads").of([203, 0, 113, 9].into(), false);
        assert_eq!(of(&country).map(|place| place.name).as_deref(), Some("DE"));
        assert_eq!(of(&map(&[])), None);
        assert_eq!(of(&text("a record of another kind")), None);
        assert_eq!(of(b"\xff\xff\xff"), None);
    }

    #[test]
    fn what_is_no_database_is_refused_by_name() {
        let error = places(b"nothing").expect_err("is none");
        assert!(error.to_string().ends_with("is no database of places"), "{error}");
    }
}
