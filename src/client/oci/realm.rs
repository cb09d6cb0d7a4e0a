//! Regions and realms: from what a person wrote (`fra`, `eu-frankfurt-1`, a domain) to a host name.
//!
//! The table is that of Oracle's SDK; a region that it does not know belongs to the realm of the
//! tenancy, else to `oc1`. Also reads the region out of an OCID, because acting on an instance of
//! another region must be refused with words and not with a 404 (F69).

/// A region and the domain of its realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its full name: `eu-frankfurt-1`.
    pub name: String,
    /// The domain of its realm: `oraclecloud.com`.
    pub domain: String,
}

/// Realm, and its regions with their short codes. A realm without regions has them unpublished.
const REALMS: &[(&str, &[(&str, &str)])] = &[
    (
        "oc1",
        &[
            ("yny", "ap-chuncheon-1"),
            ("hyd", "ap-hyderabad-1"),
            ("mel", "ap-melbourne-1"),
            ("bom", "ap-mumbai-1"),
            ("kix", "ap-osaka-1"),
            ("icn", "ap-seoul-1"),
            ("sin", "ap-singapore-1"),
            ("xsp", "ap-singapore-2"),
            ("syd", "ap-sydney-1"),
            ("nrt", "ap-tokyo-1"),
            ("jnb", "af-johannesburg-1"),
            ("yul", "ca-montreal-1"),
            ("yyz", "ca-toronto-1"),
            ("ams", "eu-amsterdam-1"),
            ("fra", "eu-frankfurt-1"),
            ("mad", "eu-madrid-1"),
            ("mrs", "eu-marseille-1"),
            ("lin", "eu-milan-1"),
            ("cdg", "eu-paris-1"),
            ("arn", "eu-stockholm-1"),
            ("zrh", "eu-zurich-1"),
            ("mtz", "il-jerusalem-1"),
            ("auh", "me-abudhabi-1"),
            ("dxb", "me-dubai-1"),
            ("jed", "me-jeddah-1"),
            ("ruh", "me-riyadh-1"),
            ("mty", "mx-monterrey-1"),
            ("qro", "mx-queretaro-1"),
            ("bog", "sa-bogota-1"),
            ("scl", "sa-santiago-1"),
            ("gru", "sa-saopaulo-1"),
            ("vap", "sa-valparaiso-1"),
            ("vcp", "sa-vinhedo-1"),
            ("cwl", "uk-cardiff-1"),
            ("lhr", "uk-london-1"),
            ("iad", "us-ashburn-1"),
            ("ord", "us-chicago-1"),
            ("phx", "us-phoenix-1"),
            ("aga", "us-saltlake-2"),
            ("sjc", "us-sanjose-1"),
        ],
    ),
    ("oc2", &[("lfi", "us-langley-1"), ("luf", "us-luke-1")]),
    ("oc3", &[("ric", "us-gov-ashburn-1"), ("pia", "us-gov-chicago-1"), ("tus", "us-gov-phoenix-1")]),
    ("oc4", &[("brs", "uk-gov-cardiff-1"), ("ltn", "uk-gov-london-1")]),
    ("oc8", &[("nja", "ap-chiyoda-1"), ("ukb", "ap-ibaraki-1")]),
    ("oc9", &[("mct", "me-dcc-muscat-1")]),
    ("oc10", &[("wga", "ap-dcc-canberra-1")]),
    (
        "oc14",
        &[
            ("ork", "eu-dcc-dublin-1"),
            ("snn", "eu-dcc-dublin-2"),
            ("bgy", "eu-dcc-milan-1"),
            ("mxp", "eu-dcc-milan-2"),
            ("dus", "eu-dcc-rating-1"),
            ("dtm", "eu-dcc-rating-2"),
        ],
    ),
    ("oc15", &[("dac", "ap-dcc-gazipur-1")]),
    ("oc19", &[("str", "eu-frankfurt-2"), ("vll", "eu-madrid-2")]),
    ("oc20", &[("beg", "eu-jovanovac-1")]),
    ("oc21", &[("doh", "me-dcc-doha-1")]),
    ("oc23", &[("ebb", "us-somerset-1"), ("ebl", "us-thames-1")]),
    ("oc24", &[("avf", "eu-crissier-1"), ("avz", "eu-dcc-zurich-1")]),
    ("oc26", &[("ahu", "me-abudhabi-3")]),
    ("oc29", &[("rkt", "me-abudhabi-2"), ("shj", "me-abudhabi-4")]),
    ("oc35", &[("bno", "ap-chuncheon-2"), ("dtz", "ap-seoul-2"), ("dln", "ap-suwon-1")]),
    ("oc42", &[]),
    ("oc51", &[]),
    ("oc52", &[]),
];

impl Region {
    /// Reads a full name, a short code, or `<region>.<domain>`. `realm` is that of the tenancy, for regions
    /// that are not in the table. `None` when it cannot be part of a host name.
    pub fn parse(text: &str, realm: Option<&str>) -> Option<Region> {
        let text = text.trim().to_ascii_lowercase();
        let fits = !text.is_empty() && text.len() <= 120 && !text.starts_with(['.', '-']) && !text.ends_with('.');
        if !fits || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
            return None;
        }
        if let Some((name, domain)) = text.split_once('.') {
            return Some(Region { name: name.to_string(), domain: domain.to_string() });
        }
        let name = full(&text).to_string();
        let known = REALMS.iter().find(|(_, regions)| regions.iter().any(|(_, region)| *region == name));
        let domain = known.and_then(|(realm, _)| domain(realm)).or_else(|| realm.and_then(domain));
        let domain = domain.unwrap_or_else(|| "oraclecloud.com".to_string());
        Some(Region { name, domain })
    }

    /// The base URL of a service (`iaas`, `auth`) in this region.
    pub fn service(&self, service: &str) -> String {
        format!("https://{service}.{}.{}", self.name, self.domain)
    }
}

/// The full name of a region given by its short code; anything else as it is.
pub fn full(name: &str) -> &str {
    let mut all = REALMS.iter().flat_map(|(_, regions)| regions.iter());
    all.find(|(code, _)| *code == name).map_or(name, |(_, region)| region)
}

/// The domain of a realm; `None` for one that nobody published.
fn domain(realm: &str) -> Option<String> {
    REALMS.iter().find(|(known, _)| *known == realm)?;
    Some(match realm {
        "oc1" => "oraclecloud.com".to_string(),
        "oc2" | "oc3" => "oraclegovcloud.com".to_string(),
        "oc4" => "oraclegovcloud.uk".to_string(),
        "oc19" => "oraclecloud.eu".to_string(),
        other => format!("oraclecloud{}.com", other.trim_start_matches("oc")),
    })
}

/// The parts of an OCID (`ocid1.<kind>.<realm>.[region].<unique>`), or `None` when it is none.
pub fn ocid(text: &str) -> Option<Ocid<'_>> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if text.len() > 255 || !plain(text) {
        return None;
    }
    let mut parts = text.splitn(5, '.');
    let (version, kind, realm, region, unique) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = version == "ocid1" && !kind.is_empty() && !realm.is_empty() && !unique.is_empty();
    whole.then_some(Ocid { kind, realm, region })
}

/// What an OCID says about its thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ocid<'a> {
    /// `instance`, `tenancy`, `user`, `compartment`.
    pub kind: &'a str,
    /// `oc1`.
    pub realm: &'a str,
    /// As written: a full name, a short code in old regions, or empty.
    pub region: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_found_by_any_of_its_names() {
        for (text, realm, url) in [
            ("eu-frankfurt-1", None, "https://iaas.eu-frankfurt-1.oraclecloud.com"),
            (" FRA ", None, "https://iaas.eu-frankfurt-1.oraclecloud.com"),
            ("iad", Some("oc1"), "https://iaas.us-ashburn-1.oraclecloud.com"),
            ("us-langley-1", None, "https://iaas.us-langley-1.oraclegovcloud.com"),
            ("us-gov-phoenix-1", None, "https://iaas.us-gov-phoenix-1.oraclegovcloud.com"),
            ("uk-gov-london-1", None, "https://iaas.uk-gov-london-1.oraclegovcloud.uk"),
            ("eu-madrid-2", Some("oc1"), "https://iaas.eu-madrid-2.oraclecloud.eu"),
            ("ap-chiyoda-1", None, "https://iaas.ap-chiyoda-1.oraclecloud8.com"),
            ("xx-new-9", None, "https://iaas.xx-new-9.oraclecloud.com"),
            ("xx-new-9", Some("oc51"), "https://iaas.xx-new-9.oraclecloud51.com"),
            ("xx-new-9", Some("oc999"), "https://iaas.xx-new-9.oraclecloud.com"),
            ("xx-new-9.cloud.example", None, "https://iaas.xx-new-9.cloud.example"),
        ] {
            let region = Region::parse(text, realm).unwrap();
            assert_eq!(region.service("iaas"), url, "{text} {realm:?}");
        }
        for bad in ["", "a/b", "a b", "a@b", ".x", "x.", "ä", &"x".repeat(121)] {
            assert_eq!(Region::parse(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn every_realm_of_the_reference_has_its_domain() {
        for number in [8, 9, 10, 14, 15, 20, 21, 23, 24, 26, 29, 35, 42, 51, 52] {
            assert_eq!(domain(&format!("oc{number}")), Some(format!("oraclecloud{number}.com")));
        }
        assert_eq!(domain("oc7"), None);
    }

    #[test]
    fn an_ocid_says_its_kind_realm_and_region() {
        let id = ocid("ocid1.instance.oc1.iad.abc.def").unwrap();
        assert_eq!((id.kind, id.realm, full(id.region)), ("instance", "oc1", "us-ashburn-1"));
        assert_eq!(ocid("ocid1.tenancy.oc1..aaaa").map(|id| id.region), Some(""));
        for bad in ["", "ocid1", "ocid1.instance.oc1.fra", "ocid2.instance.oc1.fra.a", "ocid1.instance.oc1.fra.a/b?c"] {
            assert_eq!(ocid(bad), None, "{bad}");
        }
    }
}
