//! What a browser says of itself, in the few words a person needs to recognise their computer by.

/// A computer as the phone names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computer {
    /// Such as `Chrome`; `A program` for scripts and robots; `None` when it is none of the known ones.
    pub browser: Option<&'static str>,
    /// Such as `Windows`.
    pub system: Option<&'static str>,
}

/// Only this much of a header is looked at, in bytes; the longest real ones have some 400.
const LOOKED_AT: usize = 1_024;

/// Product tokens and whose they are. The order decides: browsers name those they descend from after or before
/// themselves, so the youngest descendants come first and Safari, the ancestor of most, last.
const BROWSERS: &[(&str, &str)] = &[
    ("bot/", "A program"),
    ("spider", "A program"),
    ("crawler", "A program"),
    ("facebookexternalhit", "A program"),
    ("curl/", "A program"),
    ("wget/", "A program"),
    ("python-", "A program"),
    ("go-http-client", "A program"),
    ("okhttp", "A program"),
    ("doorbell/", "A program"),
    ("wxwork/", "WeCom"),
    ("micromessenger/", "WeChat"),
    ("dingtalk/", "DingTalk"),
    ("lark/", "Feishu"),
    ("feishu/", "Feishu"),
    ("alipayclient/", "Alipay"),
    ("edg/", "Edge"),
    ("edga/", "Edge"),
    ("edgios/", "Edge"),
    ("edge/", "Edge"),
    ("opr/", "Opera"),
    ("opt/", "Opera"),
    ("opios/", "Opera"),
    ("opera", "Opera"),
    ("vivaldi/", "Vivaldi"),
    ("yabrowser/", "Yandex Browser"),
    ("samsungbrowser/", "Samsung Internet"),
    ("ucbrowser/", "UC Browser"),
    ("ubrowser/", "UC Browser"),
    ("huaweibrowser/", "Huawei Browser"),
    ("miuibrowser/", "Mi Browser"),
    ("mqqbrowser/", "QQ Browser"),
    ("qqbrowser/", "QQ Browser"),
    (" qq/", "QQ Browser"),
    ("seamonkey/", "Firefox"),
    ("firefox/", "Firefox"),
    ("fxios/", "Firefox"),
    ("trident/", "Internet Explorer"),
    ("msie ", "Internet Explorer"),
    ("headlesschrome/", "Chrome"),
    ("chrome/", "Chrome"),
    ("crios/", "Chrome"),
    ("safari/", "Safari"),
];

/// Words of the platform comment, youngest descendants first: Android says Linux as well, and HarmonyOS Android.
const SYSTEMS: &[(&str, &str)] = &[
    ("harmonyos", "HarmonyOS"),
    ("openharmony", "HarmonyOS"),
    ("windows phone", "Windows"),
    ("android", "Android"),
    ("ipad", "iPadOS"),
    ("iphone", "iOS"),
    ("ipod", "iOS"),
    ("windows", "Windows"),
    ("cros ", "ChromeOS"),
    ("macintosh", "macOS"),
    ("mac os x", "macOS"),
    ("linux", "Linux"),
];

/// Reads a `User-Agent` (RFC 9110 section 10.1.5). Whoever sends it may say anything, so this is a help to memory and
/// proof of nothing, and none of it is ever shown: it picks from the names above, or none.
#[must_use]
pub fn describe(user_agent: &str) -> Computer {
    let text = user_agent[..user_agent.floor_char_boundary(LOOKED_AT)].to_ascii_lowercase();
    let of = |list: &[(&str, &'static str)]| {
        list.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
    };
    Computer { browser: of(BROWSERS), system: of(SYSTEMS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_user_agents() {
        let mozilla = "Mozilla/5.0 ";
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (agent, browser, system) in [
            (
                "(Windows NT 10.0; Win64; x64) {} Chrome/131.0.0.0 Safari/537.36",
                Some("Chrome"),
                Some("Windows"),
            ),
            (
                "(Macintosh; Intel Mac OS X 10_15_7) {} Chrome/131.0.0.0 Safari/537.36",
                Some("Chrome"),
                Some("macOS"),
            ),
            ("(X11; Linux x86_64) {} Chrome/131.0.0.0 Safari/537.36", Some("Chrome"), Some("Linux")),
            ("(X11; Linux x86_64) {} HeadlessChrome/131.0.0.0 Safari/537.36", Some("Chrome"), Some("Linux")),
            (
                "(X11; CrOS x86_64 14541.0.0) {} Chrome/131.0.0.0 Safari/537.36",
                Some("Chrome"),
                Some("ChromeOS"),
            ),
            (
                "(Linux; Android 10; K) {} Chrome/131.0.0.0 Mobile Safari/537.36",
                Some("Chrome"),
                Some("Android"),
            ),
            (
                "(iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
                Some("Chrome"),
                Some("iOS"),
            ),
            (
                "(Windows NT 10.0; Win64; x64) {} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.51",
                Some("Edge"),
                Some("Windows"),
            ),
            (
                "(Windows NT 10.0; Win64; x64) {} Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763",
                Some("Edge"),
                Some("Windows"),
            ),
            (
                "(Linux; Android 10; HD1913) {} Chrome/131.0.6778.81 Mobile Safari/537.36 EdgA/131.0.2903.48",
                Some("Edge"),
                Some("Android"),
            ),
            (
                "(iPhone; CPU iPhone OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 \
                 EdgiOS/131.0.2903.68 Mobile/15E148 Safari/605.1.15",
                Some("Edge"),
                Some("iOS"),
            ),
            (
                "(Macintosh; Intel Mac OS X 14_7_1) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
                Some("Safari"),
                Some("macOS"),
            ),
            (
                "(iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 \
                 Mobile/15E148 Safari/604.1",
                Some("Safari"),
                Some("iOS"),
            ),
            (
                "(iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 \
                 Mobile/15E148 Safari/604.1",
                Some("Safari"),
                Some("iPadOS"),
            ),
            (
                "(Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
                Some("Firefox"),
                Some("Windows"),
            ),
            (
                "(X11; Ubuntu; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
                Some("Firefox"),
                Some("Linux"),
            ),
            ("(Android 15; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0", Some("Firefox"), Some("Android")),
            (
                "(iPhone; CPU iPhone OS 14_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/132.0 \
                 Mobile/15E148 Safari/605.1.15",
                Some("Firefox"),
                Some("iOS"),
            ),
            (
                "(Windows NT 10.0; Win64; x64) {} Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0",
                Some("Opera"),
                Some("Windows"),
            ),
            (
                "(Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
                Some("Internet Explorer"),
                Some("Windows"),
            ),
            (
                "(Linux; Android 14; SAMSUNG SM-S911B) {} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
                Some("Samsung Internet"),
                Some("Android"),
            ),
            (
                "(Linux; Android 13; V2183A Build/TP1A.220624.014; wv) {} Version/4.0 Chrome/116.0.0.0 Mobile \
                 Safari/537.36 XWEB/1160117 MMWEBSDK/20240301 MMWEBID/5345 MicroMessenger/8.0.48.2580(0x28003035) \
                 WeChat/arm64 Weixin NetType/WIFI Language/zh_CN ABI/arm64",
                Some("WeChat"),
                Some("Android"),
            ),
            (
                "(iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 \
                 MicroMessenger/8.0.49(0x18003137) NetType/4G Language/zh_CN",
                Some("WeChat"),
                Some("iOS"),
            ),
            (
                "(Windows NT 10.0; Win64; x64) {} Chrome/107.0.0.0 Safari/537.36 MicroMessenger/7.0.20.1781(0x6700143B) \
                 NetType/WIFI MiniProgramEnv/Windows WindowsWechat/WMPF XWEB/8555",
                Some("WeChat"),
                Some("Windows"),
            ),
            (
                "(iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 \
                 wxwork/4.1.10 MicroMessenger/7.0.1 Language/zh",
                Some("WeCom"),
                Some("iOS"),
            ),
            (
                "(Linux; Android 12; HarmonyOS; ANA-AN00; HMSCore 6.12.4.312) {} Chrome/114.0.5735.196 \
                 HuaweiBrowser/15.0.4.312 Mobile Safari/537.36",
                Some("Huawei Browser"),
                Some("HarmonyOS"),
            ),
            (
                "(Linux; U; Android 13; zh-cn; 2211133C) {} Version/4.0 Chrome/109.0.5414.118 Mobile Safari/537.36 \
                 XiaoMi/MiuiBrowser/18.2.150419",
                Some("Mi Browser"),
                Some("Android"),
            ),
            (
                "(Linux; U; Android 12; zh-cn) {} Version/4.0 Chrome/109.0.5414.86 MQQBrowser/14.8 Mobile Safari/537.36",
                Some("QQ Browser"),
                Some("Android"),
            ),
            ("(compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Some("A program"), None),
            (
                "(compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
                Some("A program"),
                None,
            ),
            ("(compatible; bingbot/2.0) {} Chrome/116.0.1938.76 Safari/537.36", Some("A program"), None),
        ] {
            let agent = format!("{mozilla}{}", agent.replace("{}", webkit));
            assert_eq!(describe(&agent), Computer { browser, system }, "{agent}");
        }
    }

    #[test]
    fn what_is_no_browser_or_no_text_is_unknown_at_most() {
        let nothing = Computer { browser: None, system: None };
        let endless = format!("{}Firefox/132.0 (Windows)", "x".repeat(LOOKED_AT));
        for agent in ["", "Mozilla/5.0", "<script>alert(1)</script>", "\u{0}\u{fffd}", &endless] {
            assert_eq!(describe(agent), nothing);
        }
        for agent in [
            "curl/8.5.0",
            "Wget/1.21.4",
            "python-requests/2.32.3",
            "Go-http-client/1.1",
            "facebookexternalhit/1.1",
        ] {
            assert_eq!(describe(agent).browser, Some("A program"), "{agent}");
        }
        assert_eq!(describe("FIREFOX/1 WINDOWS").browser, Some("Firefox"));
    }
}
