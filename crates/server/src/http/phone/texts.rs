//! What the page says, in each of its languages.

use std::time::Duration;

use doorbell_login::Computer;

use super::language::Language;

/// The page's words. `{}` is where a name or a number goes; see [`with`].
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) sign_in_to: &'static str,
    pub(super) scanned: &'static str,
    pub(super) go_on: &'static str,
    pub(super) asks: &'static str,
    pub(super) place: &'static str,
    pub(super) address: &'static str,
    pub(super) asked: &'static str,
    pub(super) computer: &'static str,
    pub(super) same_message: &'static str,
    pub(super) caution: &'static str,
    pub(super) elsewhere: &'static str,
    pub(super) ways: &'static str,
    pub(super) demo_names: &'static str,
    pub(super) number: &'static str,
    pub(super) wrong_number: [&'static str; 2],
    pub(super) agree: &'static str,
    pub(super) refuse: &'static str,
    pub(super) seconds_left: &'static str,
    pub(super) digits: &'static str,
    pub(super) digits_hint: &'static str,
    pub(super) agreed: &'static str,
    pub(super) agreed_hint: &'static str,
    pub(super) signed_in: &'static str,
    pub(super) signed_in_on: &'static str,
    pub(super) close: &'static str,
    pub(super) not_me: &'static str,
    pub(super) not_me_hint: &'static str,
    pub(super) type_code: &'static str,
    pub(super) type_code_hint: &'static str,
    pub(super) code: &'static str,
    pub(super) code_unknown: &'static str,
    pub(super) ended: Notice,
    pub(super) refused: Notice,
    pub(super) expired: Notice,
    pub(super) taken: Notice,
    pub(super) renewed: Notice,
    pub(super) cancelled: Notice,
    pub(super) numbers_used_up: Notice,
    pub(super) unknown: Notice,
    pub(super) site_unknown: Notice,
    pub(super) other_network: Notice,
    pub(super) own_app: Notice,
    pub(super) no_cookie: Notice,
    pub(super) busy: Notice,
    pub(super) failed: Notice,
}

/// A page that only says something: its heading and what to do now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    pub(super) title: &'static str,
    pub(super) body: &'static str,
}

impl Language {
    pub(super) const fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }

    /// How long ago something was, to the unit that matters.
    pub(super) fn ago(self, age: Duration) -> String {
        let seconds = age.as_secs();
        let (count, unit) = match seconds {
            0..10 => return if self == Self::English { "just now" } else { "刚刚" }.into(),
            10..60 => (seconds, 0),
            60..3_600 => (seconds / 60, 1),
            3_600..86_400 => (seconds / 3_600, 2),
            _ => (seconds / 86_400, 3),
        };
        match self {
            Self::English => {
                let unit = ["second", "minute", "hour", "day"][unit];
                format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
            }
            Self::Chinese => format!("{count} {}前", ["秒", "分钟", "小时", "天"][unit]),
        }
    }

    /// A browser on a system, such as "Chrome on Windows".
    pub(super) fn computer(self, computer: Computer) -> String {
        let browser = computer.browser.map(|name| self.browser(name));
        let system = computer.system;
        match (self, browser, system) {
            (Self::English, Some(browser), Some(system)) => format!("{browser} on {system}"),
            (Self::English, Some(browser), None) => browser.to_owned(),
            (Self::English, None, Some(system)) => format!("Unknown browser on {system}"),
            (Self::English, None, None) => "Unknown browser".to_owned(),
            (Self::Chinese, Some(browser), Some(system)) => format!("{system} 上的 {browser}"),
            (Self::Chinese, Some(browser), None) => browser.to_owned(),
            (Self::Chinese, None, Some(system)) => format!("{system} 上的未知浏览器"),
            (Self::Chinese, None, None) => "未知浏览器".to_owned(),
        }
    }

    /// Names that people know in another form.
    fn browser(self, name: &'static str) -> &'static str {
        match (self, name) {
            (Self::Chinese, "WeChat") => "微信",
            (Self::Chinese, "WeCom") => "企业微信",
            (Self::Chinese, "DingTalk") => "钉钉",
            (Self::Chinese, "Feishu") => "飞书",
            (Self::Chinese, "Alipay") => "支付宝",
            (Self::Chinese, "QQ Browser") => "QQ 浏览器",
            (Self::Chinese, "Huawei Browser") => "华为浏览器",
            (Self::Chinese, "Mi Browser") => "小米浏览器",
            (Self::Chinese, "A program") => "程序（不是浏览器）",
            (_, name) => name,
        }
    }
}

/// The text with a value in its place.
pub(super) fn with(text: &str, value: &str) -> String {
    text.split_once("{}").map_or_else(|| text.to_owned(), |(before, after)| format!("{before}{value}{after}"))
}

static ENGLISH: Texts = Texts {
    sign_in_to: "Sign in to {}?",
    scanned: "You scanned a code that a computer shows. Continue to see which computer that is. Nothing is allowed yet.",
    go_on: "Continue",
    asks: "This computer asks to be signed in",
    place: "Place",
    address: "Address",
    asked: "Asked",
    computer: "Computer",
    same_message: "The computer shows the same words",
    caution: "Agree only if you opened this site on that computer yourself. If somebody sent you the code, refuse.",
    elsewhere: "This computer is not in your phone's network. If it is not right in front of you, refuse.",
    ways: "Sign in with",
    demo_names: "Who you are in this demonstration",
    number: "Type the number that the computer shows",
    wrong_number: ["That is not the number. One try is left.", "That is not the number. {} tries are left."],
    agree: "Agree",
    refuse: "Refuse",
    seconds_left: "{} s left",
    digits: "Type this number on the computer",
    digits_hint: "Only then is it signed in. Tell the number to nobody: only the computer in front of you needs it.",
    agreed: "Agreed",
    agreed_hint: "The computer goes on now. You can close this page.",
    signed_in: "You are signed in to {}",
    signed_in_on: "Signed in on",
    close: "You can close this page.",
    not_me: "That was not me",
    not_me_hint: "For 24 hours this signs that computer out again.",
    type_code: "Sign in with a code",
    type_code_hint: "Type the code that the computer shows. Type no code that somebody sent you.",
    code: "Code",
    code_unknown: "This code is not known. Look at the computer: it may show another one by now.",
    ended: Notice { title: "Signed out", body: "That computer is signed out." },
    refused: Notice {
        title: "Refused",
        body: "Nobody was signed in. If you did not ask for this, somebody may have sent you their code.",
    },
    expired: Notice {
        title: "This code has expired",
        body: "Have the computer show a new one, and scan that.",
    },
    taken: Notice {
        title: "Another phone has this code",
        body: "A code is good for the first phone that scans it. If that was not your phone, have the computer show a new code.",
    },
    renewed: Notice { title: "The code was renewed", body: "Scan the one that the computer shows now." },
    cancelled: Notice {
        title: "The computer gave up",
        body: "Its page was closed, or the sign-in was stopped there. Nobody was signed in.",
    },
    numbers_used_up: Notice {
        title: "Refused: wrong number",
        body: "The number was wrong too often. If the computer is in front of you, have it show a new code.",
    },
    unknown: Notice {
        title: "This code is not known",
        body: "It is old, or not complete. Scan the one that the computer shows now.",
    },
    site_unknown: Notice {
        title: "This site is not known here",
        body: "It may have been removed. Nobody was signed in.",
    },
    other_network: Notice {
        title: "Not from this network",
        body: "This site wants phone and computer in the same network. Connect both to the same Wi-Fi, and scan a new code.",
    },
    own_app: Notice {
        title: "Scan this with another app",
        body: "Open the app that this site names, such as its own or WeChat, and scan the code from there.",
    },
    no_cookie: Notice {
        title: "Open the code again",
        body: "This page was open for too long, or your browser keeps no cookies. Allow them, and scan the code again.",
    },
    busy: Notice { title: "Too many tries", body: "Wait {} s, then try again." },
    failed: Notice {
        title: "Could not find out who you are",
        body: "Nobody was signed in. Scan the code once more.",
    },
};

static CHINESE: Texts = Texts {
    sign_in_to: "登录 {}？",
    scanned: "您扫描了电脑上显示的二维码。点“继续”查看是哪台电脑，此时还没有允许任何操作。",
    go_on: "继续",
    asks: "这台电脑请求登录",
    place: "位置",
    address: "地址",
    asked: "时间",
    computer: "电脑",
    same_message: "电脑上也显示着这句话",
    caution: "只有您自己在那台电脑上打开了这个网站，才可以同意。如果二维码是别人发给您的，请拒绝。",
    elsewhere: "这台电脑和您的手机不在同一个网络。如果它不在您面前，请拒绝。",
    ways: "登录方式",
    demo_names: "演示身份",
    number: "输入电脑上显示的数字",
    wrong_number: ["数字不对，还可以试一次。", "数字不对，还可以试 {} 次。"],
    agree: "同意",
    refuse: "拒绝",
    seconds_left: "还剩 {} 秒",
    digits: "在电脑上输入这个数字",
    digits_hint: "输入之后才会登录。不要把数字告诉任何人：只有您面前的电脑需要它。",
    agreed: "已同意",
    agreed_hint: "电脑正在继续。您可以关闭本页。",
    signed_in: "您已登录 {}",
    signed_in_on: "登录设备",
    close: "您可以关闭本页。",
    not_me: "不是我本人操作",
    not_me_hint: "24 小时内点这里，可以让那台电脑退出登录。",
    type_code: "用代码登录",
    type_code_hint: "输入电脑上显示的代码。不要输入别人发给您的代码。",
    code: "代码",
    code_unknown: "没有这个代码。请看电脑，它可能已经换了一个。",
    ended: Notice { title: "已退出登录", body: "那台电脑已经退出登录。" },
    refused: Notice {
        title: "已拒绝",
        body: "没有任何人登录。如果您没有要登录，可能是别人把他的二维码发给了您。",
    },
    expired: Notice { title: "二维码已过期", body: "请在电脑上刷新二维码，再扫一次。" },
    taken: Notice {
        title: "二维码已被另一部手机扫描",
        body: "二维码只对第一部扫描的手机有效。如果那不是您的手机，请在电脑上换一个二维码。",
    },
    renewed: Notice { title: "二维码已更新", body: "请扫描电脑上现在显示的二维码。" },
    cancelled: Notice {
        title: "电脑已取消",
        body: "电脑上的页面已关闭，或者在那里取消了登录。没有任何人登录。",
    },
    numbers_used_up: Notice {
        title: "已拒绝：数字错误",
        body: "数字错误次数过多。如果电脑就在您面前，请换一个二维码再试。",
    },
    unknown: Notice {
        title: "没有这个二维码",
        body: "它可能已经过时或不完整。请扫描电脑上现在显示的二维码。",
    },
    site_unknown: Notice {
        title: "没有这个网站", body: "它可能已被移除。没有任何人登录。"
    },
    other_network: Notice {
        title: "不在同一个网络",
        body: "这个网站要求手机和电脑在同一个网络。请连接同一个 Wi-Fi，再扫描新的二维码。",
    },
    own_app: Notice {
        title: "请用其他应用扫描",
        body: "请打开网站指明的应用（网站自己的应用或微信），用它扫描二维码。",
    },
    no_cookie: Notice {
        title: "请重新打开",
        body: "页面打开太久了，或者浏览器不保存 Cookie。请允许 Cookie，再扫一次。",
    },
    busy: Notice { title: "尝试次数过多", body: "请等 {} 秒再试。" },
    failed: Notice { title: "无法确认您的身份", body: "没有任何人登录。请再扫一次。" },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_ages() {
        for (seconds, english, chinese) in [
            (0, "just now", "刚刚"),
            (9, "just now", "刚刚"),
            (10, "10 seconds ago", "10 秒前"),
            (59, "59 seconds ago", "59 秒前"),
            (60, "1 minute ago", "1 分钟前"),
            (119, "1 minute ago", "1 分钟前"),
            (3_599, "59 minutes ago", "59 分钟前"),
            (3_600, "1 hour ago", "1 小时前"),
            (86_399, "23 hours ago", "23 小时前"),
            (172_800, "2 days ago", "2 天前"),
        ] {
            let age = Duration::from_secs(seconds);
            assert_eq!(Language::English.ago(age), english);
            assert_eq!(Language::Chinese.ago(age), chinese);
        }
    }

    #[test]
    fn computers_have_a_name_in_both_languages() {
        let computer = |agent| {
            let computer = doorbell_login::describe(agent);
            (Language::English.computer(computer), Language::Chinese.computer(computer))
        };
        assert_eq!(
            computer("Chrome/1 (Windows NT 10.0)"),
            ("Chrome on Windows".into(), "Windows 上的 Chrome".into())
        );
        assert_eq!(computer("MicroMessenger/8 (iPhone)"), ("WeChat on iOS".into(), "iOS 上的 微信".into()));
        assert_eq!(computer("(Linux)"), ("Unknown browser on Linux".into(), "Linux 上的未知浏览器".into()));
        assert_eq!(computer(""), ("Unknown browser".into(), "未知浏览器".into()));
    }

    #[test]
    fn a_value_goes_in_once_and_is_not_read_as_a_text() {
        assert_eq!(with("a {} b {}", "{}"), "a {} b {}");
        assert_eq!(with("nothing", "x"), "nothing");
    }

    /// A text that lost its place would leave out the site's name.
    #[test]
    fn both_languages_have_the_same_places() {
        let places = |texts: &Texts| {
            let text = format!("{texts:?}");
            text.split(", ").map(|field| field.matches("{}").count()).sum::<usize>()
        };
        assert_eq!(places(&ENGLISH), places(&CHINESE));
    }
}
