//! `upstream`: what must hold between the URLs of a list.

use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::reader::Setting;
use crate::config::schema::Place;
use crate::config::template;
use crate::config::url::UpstreamUrl;
use crate::config::url::UrlTemplate;
use crate::config::url::credential_parameter;
use crate::config::url::unknown_variable;
use crate::config::values::OneOrMany;

/// More places than this are a mistake: a round through all of them would take minutes.
const MOST: usize = 16;

/// The URLs that a channel's upstream is to be had at, the best first; `None`: there is none, which
/// is reported.
pub(super) fn meant(place: &Place) -> Option<Vec<UrlTemplate>> {
    let OneOrMany(list) = place.upstream.written()?;
    let urls = list.iter().map(|url| url.get_ref().0.clone());
    Some(urls.collect()).filter(|urls: &Vec<_>| !urls.is_empty())
}

/// The name of the first query parameter of any of them that looks like a credential.
pub(super) fn credential(upstream: &Setting<OneOrMany<UpstreamUrl>>) -> Option<&str> {
    let OneOrMany(list) = upstream.written()?;
    list.iter()
        .find_map(|url| credential_parameter(&url.get_ref().0))
}

/// Reports a list that is empty, too long, or names a place twice, and variables that are not those of
/// the path.
pub(super) fn check(place: &Place, findings: &mut Findings) {
    check_list(&place.upstream, findings);
    check_variables(place, findings);
}

/// Reports a list that is empty, too long, or names a place twice.
pub(super) fn check_list<T: PartialEq>(upstream: &Setting<OneOrMany<T>>, findings: &mut Findings) {
    let (Some(OneOrMany(list)), Some(span)) = (upstream.written(), upstream.span()) else {
        return;
    };
    if list.is_empty() {
        let mistake = Mistake::new("the list is empty", "name at least one URL");
        findings.error(span, mistake.of("upstream"));
        return;
    }
    if list.len() > MOST {
        let message = format!("{} URLs are too many", list.len());
        let mistake = Mistake::new(message, format!("write {MOST} at most"));
        findings.error(span, mistake.of("upstream"));
    }
    for (n, url) in list.iter().enumerate() {
        let mut before = list.iter().take(n);
        let Some(first) = before.find(|other| other.get_ref() == url.get_ref()) else {
            continue;
        };
        let advice = "remove one of them: a URL that fails is followed by another one";
        let mistake = Mistake::new("this URL is given twice", advice).of("upstream");
        let finding = Finding::new(Severity::Error, Some(url.span()), mistake);
        findings.push(finding.with_note("it is given first here", first.span()));
    }
}

/// Variables are those of the path, and each of them goes upstream.
fn check_variables(place: &Place, findings: &mut Findings) {
    let (Some(path), Some(OneOrMany(list))) = (place.path.written(), place.upstream.written())
    else {
        return;
    };
    let variables = template::variables(&path.0);
    for url in list {
        if let Some(mistake) = unknown_variable(&url.get_ref().0.variables(), &variables) {
            findings.error(url.span(), mistake.of("upstream"));
        }
    }
    for variable in variables {
        let Some(url) = list.iter().find(|url| {
            let used = url.get_ref().0.variables();
            !used.iter().any(|one| one.name == variable.name)
        }) else {
            continue;
        };
        let message = format!(
            "the path's `{variable}` is not in this URL: whatever it is, the origin is asked for the same"
        );
        let advice = format!(
            "put `{variable}` where the origin has it; or a `_` in front of the name, if that is meant"
        );
        if !variable.name.starts_with('_') {
            findings.warn(url.span(), Mistake::new(message, advice).of("upstream"));
        }
    }
}
