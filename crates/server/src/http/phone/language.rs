//! Which of the page's languages somebody reads, by Accept-Language (RFC 9110 section 12.5.4).

/// The languages of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Language {
    #[default]
    English,
    Chinese,
}

/// Ranges that are looked at; browsers send ten at most.
const RANGES: usize = 32;

impl Language {
    /// The one the header prefers: the highest weight wins, and among equals the first. English when it names neither.
    pub(crate) fn of_header(header: &str) -> Self {
        let mut best = (0, Self::default());
        let mut named = Vec::new();
        let ranges: Vec<_> = header.split(',').take(RANGES).filter_map(range).collect();
        for (tag, weight) in &ranges {
            let primary = tag.split('-').next().unwrap_or_default();
            let language = match primary.to_ascii_lowercase().as_str() {
                "en" => Self::English,
                "zh" => Self::Chinese,
                _ => continue,
            };
            named.push(language);
            if *weight > best.0 {
                best = (*weight, language);
            }
        }
        // `*` stands for every language that is not named.
        if let Some((_, weight)) = ranges.iter().find(|(tag, _)| *tag == "*")
            && *weight > best.0
            && let Some(language) = [Self::English, Self::Chinese].into_iter().find(|it| !named.contains(it))
        {
            return language;
        }
        best.1
    }

    /// The tag for the page's `lang` attribute (BCP 47).
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }
}

/// A language range and its weight in thousandths; `None` for what is no range.
fn range(entry: &str) -> Option<(&str, u16)> {
    let (tag, parameters) = entry.split_once(';').map_or((entry, None), |(tag, rest)| (tag, Some(rest)));
    let weight = match parameters {
        None => 1_000,
        Some(parameters) => {
            thousandths(parameters.trim().strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('=')?)?
        }
    };
    Some((tag.trim(), weight))
}

/// A weight such as `0.8` (RFC 9110 section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "1" if fraction == 0 => Some(1_000),
        "0" => Some(fraction),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_headers() {
        use Language::{Chinese, English};
        for (header, expected) in [
            ("", English),
            ("en", English),
            ("zh", Chinese),
            ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
            ("zh-TW", Chinese),
            ("ZH-Hans-CN", Chinese),
            ("en-US,en;q=0.9,zh-CN;q=0.8", English),
            ("fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.4", Chinese),
            ("fr,de;q=0.7", English),
            ("en;q=0.3, zh;q=0.30", English),
            ("en;q=0.299, zh;q=0.3", Chinese),
            ("zh;q=0", English),
            ("en;q=0, zh;q=0.001", Chinese),
            ("en;q=0, *", Chinese),
            ("zh;q=0, *", English),
            ("en;q=0.5, *;q=0.8", Chinese),
            ("*", English),
            ("zh ; q=1.000 , en ; q=1", Chinese),
            ("zh;q=2, en;q=0.1", English),
            ("zh;q=x, en;q=0.1", English),
            ("zh;level=1", English),
            ("zhx, enx", English),
            (",,;;==", English),
        ] {
            assert_eq!(Language::of_header(header), expected, "{header:?}");
        }
    }
}
