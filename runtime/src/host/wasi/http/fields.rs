//! `fields`: header and trailer fields.
//!
//! Names are compared without regard to case and come back in the casing they were given in; that casing is kept apart, for
//! the few who use capitals. A guest's fields are checked as they are made, so what is sent later needs no second look.
//! Freezing is for good: once a message has its headers, whoever holds them can only read.

use super::bindings::wasi::http::types::{FieldName, FieldValue, HeaderError};
use crate::abi::{Account, Held};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

/// Bytes that the fields of one resource may have, measured as in RFC 9113, 6.5.2. What a guest makes counts for its zone's account.
const FIELDS_SIZE_MAX: usize = 128 << 10;
/// What each field costs besides its bytes (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// The resource `fields`.
pub struct Fields {
    entries: RefCell<Entries>,
    mutable: Cell<bool>,
    /// For what a guest has made: the size of the entries.
    held: Option<RefCell<Held>>,
}

#[derive(Clone, Default)]
struct Entries {
    map: HeaderMap,
    /// The names of fields that were not given in lower case: for each such name the casing of its values, in their order.
    casing: Option<Box<HeaderMap<Box<str>>>>,
    size: usize,
}

impl Fields {
    /// No fields; can be changed.
    pub fn new(account: &Rc<Account>) -> Self {
        let held = Some(RefCell::new(account.open()));
        Fields { entries: RefCell::default(), mutable: Cell::new(true), held }
    }

    /// The fields of a message from outside, which a guest may read only.
    pub fn received(map: HeaderMap) -> Self {
        let entries = Entries { map, casing: None, size: 0 };
        Fields { entries: RefCell::new(entries), mutable: Cell::new(false), held: None }
    }

    /// From here on the fields can only be read.
    pub fn freeze(&self) {
        self.mutable.set(false);
    }

    /// The fields, for looking.
    pub fn map(&self) -> Ref<'_, HeaderMap> {
        Ref::map(self.entries.borrow(), |entries| &entries.map)
    }

    /// The fields, without a copy if nobody else holds them.
    pub fn into_map(self: Rc<Self>) -> HeaderMap {
        match Rc::try_unwrap(self) {
            Ok(fields) => fields.entries.into_inner().map,
            Err(shared) => shared.map().clone(),
        }
    }

    pub(super) fn from_list(
        account: &Rc<Account>,
        entries: Vec<(FieldName, FieldValue)>,
    ) -> Result<Fields, HeaderError> {
        let fields = Fields::new(account);
        entries.into_iter().try_for_each(|(name, value)| fields.append(&name, value))?;
        Ok(fields)
    }

    pub(super) fn get(&self, name: &str) -> Vec<FieldValue> {
        let entries = self.entries.borrow();
        entries.map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.borrow().map.contains_key(name)
    }

    pub(super) fn set(&self, name: &str, values: Vec<FieldValue>) -> Result<(), HeaderError> {
        let key = self.writable(name)?;
        let values = values.into_iter().map(parse_value).collect::<Result<Vec<_>, _>>()?;
        let mut entries = self.entries.borrow_mut();
        let size =
            entries.size - entries.size_of(&key) + values.iter().map(|value| field_size(&key, value)).sum::<usize>();
        self.grow(size)?;
        entries.remove(&key);
        values.into_iter().try_for_each(|value| entries.append(name, &key, value))
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), HeaderError> {
        let key = self.writable(name)?;
        let mut entries = self.entries.borrow_mut();
        entries.remove(&key);
        self.shrink(entries.size);
        Ok(())
    }

    pub(super) fn get_and_delete(&self, name: &str) -> Result<Vec<FieldValue>, HeaderError> {
        let key = self.writable(name)?;
        let values = self.get(name);
        let mut entries = self.entries.borrow_mut();
        entries.remove(&key);
        self.shrink(entries.size);
        Ok(values)
    }

    pub(super) fn append(&self, name: &str, value: FieldValue) -> Result<(), HeaderError> {
        let key = self.writable(name)?;
        let value = parse_value(value)?;
        let mut entries = self.entries.borrow_mut();
        self.grow(entries.size + field_size(&key, &value))?;
        entries.append(name, &key, value)
    }

    pub(super) fn copy_all(&self) -> Vec<(FieldName, FieldValue)> {
        let entries = self.entries.borrow();
        let mut all = Vec::with_capacity(entries.map.len());
        for key in entries.map.keys() {
            let mut casing = entries.casing.iter().flat_map(|casing| casing.get_all(key));
            for value in entries.map.get_all(key) {
                let name = casing.next().map_or(key.as_str(), |name| name);
                all.push((name.to_string(), value.as_bytes().to_vec()));
            }
        }
        all
    }

    /// A copy that can be changed; `None` if the account is full.
    pub(super) fn duplicate(&self, account: &Rc<Account>) -> Option<Fields> {
        let mut entries = self.entries.borrow().clone();
        // Those from outside were not measured yet.
        entries.size = entries.map.iter().map(|(name, value)| field_size(name, value)).sum();
        let fields = Fields { entries: RefCell::new(entries), ..Fields::new(account) };
        let fits = fields.hold(fields.entries.borrow().size);
        fits.then_some(fields)
    }

    /// Makes room for entries of this size, if they may have it.
    fn grow(&self, size: usize) -> Result<(), HeaderError> {
        let fits = size <= FIELDS_SIZE_MAX && self.hold(size);
        if fits { Ok(()) } else { Err(HeaderError::SizeExceeded) }
    }

    fn shrink(&self, size: usize) {
        assert!(self.hold(size), "less always fits");
    }

    fn hold(&self, size: usize) -> bool {
        self.held.as_ref().is_none_or(|held| held.borrow_mut().resize(size))
    }

    /// The parsed name, if a field of that name may be changed here.
    fn writable(&self, name: &str) -> Result<HeaderName, HeaderError> {
        if !self.mutable.get() {
            return Err(HeaderError::Immutable);
        }
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidSyntax)?;
        if is_forbidden(&key) {
            return Err(HeaderError::Forbidden);
        }
        Ok(key)
    }
}

impl Entries {
    fn size_of(&self, key: &HeaderName) -> usize {
        self.map.get_all(key).iter().map(|value| field_size(key, value)).sum()
    }

    fn remove(&mut self, key: &HeaderName) {
        self.size -= self.size_of(key);
        self.map.remove(key);
        if let Some(casing) = &mut self.casing {
            casing.remove(key);
        }
    }

    fn append(&mut self, name: &str, key: &HeaderName, value: HeaderValue) -> Result<(), HeaderError> {
        let full = |_| HeaderError::SizeExceeded;
        let size = field_size(key, &value);
        let lower = name == key.as_str();
        if !lower || self.casing.as_ref().is_some_and(|casing| casing.contains_key(key)) {
            let before = self.map.get_all(key).iter().count();
            let casing = self.casing.get_or_insert_default();
            // Those before, if any, were all given in lower case.
            let missing = before - casing.get_all(key).iter().count();
            (0..missing).try_for_each(|_| casing.try_append(key, key.as_str().into()).map(drop)).map_err(full)?;
            casing.try_append(key, name.into()).map_err(full)?;
        }
        self.map.try_append(key, value).map_err(full)?;
        self.size += size;
        Ok(())
    }
}

fn parse_value(value: FieldValue) -> Result<HeaderValue, HeaderError> {
    HeaderValue::try_from(value).map_err(|_| HeaderError::InvalidSyntax)
}

fn field_size(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + FIELD_OVERHEAD
}

/// Fields that belong to a connection (RFC 9110, 7.6.1) or say what `request` says elsewhere: guests neither set nor see them.
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Takes away what concerns the connection that the message came on: forbidden fields and those that `connection` lists.
pub(super) fn strip_hop_by_hop(map: &mut HeaderMap) {
    if !map.keys().any(is_forbidden) {
        return;
    }
    let listed: Vec<HeaderName> = map
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    let forbidden: Vec<HeaderName> = map.keys().filter(|name| is_forbidden(name)).cloned().collect();
    for name in listed.iter().chain(&forbidden) {
        map.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Rc<Account> {
        Account::new(1 << 20)
    }

    fn copy(fields: &Fields) -> Fields {
        fields.duplicate(&account()).expect("there is room")
    }

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    fn list(fields: &Fields) -> Vec<(String, String)> {
        let text = |value: Vec<u8>| String::from_utf8(value).expect("tests use text");
        fields.copy_all().into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn names_come_back_in_the_casing_they_were_given_in() {
        let fields = Fields::new(&account());
        fields.append("accept", bytes("a")).expect("valid");
        fields.append("Accept", bytes("b")).expect("valid");
        fields.append("X-One", bytes("1")).expect("valid");
        fields.append("x-two", bytes("2")).expect("valid");
        let expected = [("accept", "a"), ("Accept", "b"), ("X-One", "1"), ("x-two", "2")];
        assert_eq!(list(&fields), pairs(&expected));
        fields.set("ACCEPT", vec![bytes("c")]).expect("valid");
        fields.delete("x-one").expect("known");
        let mut left = list(&fields);
        left.sort();
        assert_eq!(left, pairs(&[("ACCEPT", "c"), ("x-two", "2")]));
        assert_eq!(list(&copy(&fields)), list(&fields));
    }

    #[test]
    fn names_are_compared_without_regard_to_case() {
        let fields = Fields::from_list(&account(), vec![("Foo".into(), bytes("1"))]).expect("valid");
        assert!(fields.has("fOO"));
        assert_eq!(fields.get("FOO"), [bytes("1")]);
        assert_eq!(fields.get_and_delete("foo"), Ok(vec![bytes("1")]));
        assert!(!fields.has("foo"));
        assert!(!fields.has("not a name"));
        assert!(fields.get("not a name").is_empty());
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let fields = Fields::from_list(&account(), vec![("empty".into(), vec![])]).expect("valid");
        assert_eq!(fields.get("empty"), [bytes("")]);
        fields.set("empty", vec![]).expect("valid");
        assert!(!fields.has("empty"));
    }

    #[test]
    fn what_is_not_a_name_or_a_value_is_refused() {
        let fields = Fields::new(&account());
        for name in ["", "a b", "a:b", "ü", "a\n"] {
            let refused = Err(HeaderError::InvalidSyntax);
            assert_eq!(fields.append(name, bytes("v")), refused, "{name:?}");
            assert_eq!(fields.set(name, vec![bytes("v")]), refused, "{name:?}");
            assert_eq!(fields.delete(name), refused, "{name:?}");
        }
        for value in ["a\nb", "a\rb", "\0", "\x7f"] {
            let refused = Err(HeaderError::InvalidSyntax);
            assert_eq!(fields.append("name", bytes(value)), refused, "{value:?}");
        }
        assert_eq!(fields.append("name", vec![0xff, b'\t']), Ok(()));
    }

    #[test]
    fn fields_of_the_connection_are_forbidden() {
        for name in ["Connection", "keep-alive", "Host", "transfer-encoding", "upgrade"] {
            let one = || vec![(name.to_string(), bytes("x"))];
            assert_eq!(Fields::from_list(&account(), one()).err(), Some(HeaderError::Forbidden), "{name}");
            let fields = Fields::new(&account());
            assert_eq!(fields.set(name, vec![]), Err(HeaderError::Forbidden));
            assert_eq!(fields.append(name, bytes("x")), Err(HeaderError::Forbidden));
        }
    }

    #[test]
    fn frozen_fields_can_only_be_read_and_their_copy_changed() {
        let fields = Fields::from_list(&account(), vec![("a".into(), bytes("1"))]).expect("valid");
        fields.freeze();
        assert_eq!(fields.append("b", bytes("2")), Err(HeaderError::Immutable));
        assert_eq!(fields.set("a", vec![]), Err(HeaderError::Immutable));
        assert_eq!(fields.delete("a"), Err(HeaderError::Immutable));
        assert_eq!(fields.get_and_delete("a"), Err(HeaderError::Immutable));
        assert_eq!(copy(&fields).delete("a"), Ok(()));
        assert!(fields.has("a"));
    }

    #[test]
    fn fields_have_a_size_limit_and_removing_makes_room() {
        let fields = Fields::new(&account());
        let half = vec![b'x'; FIELDS_SIZE_MAX / 2];
        fields.append("a", half.clone()).expect("fits");
        assert_eq!(fields.append("b", half.clone()), Err(HeaderError::SizeExceeded));
        assert_eq!(fields.set("a", vec![half.clone(), half.clone()]), Err(HeaderError::SizeExceeded));
        assert_eq!(fields.get("a").len(), 1, "a refused change changes nothing");
        fields.set("a", vec![half.clone()]).expect("takes the place of the old one");
        fields.delete("a").expect("known");
        fields.append("b", half).expect("fits");
        let mut many = (0..FIELDS_SIZE_MAX).map(|n| fields.append(&format!("n{n}"), vec![]));
        assert!(many.any(|result| result == Err(HeaderError::SizeExceeded)));
    }

    #[test]
    fn fields_of_the_connection_are_taken_from_what_comes_in() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ] {
            map.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn all_fields_of_a_zone_share_what_it_may_make_us_keep() {
        let account = Account::new(1000);
        let (one, other) = (Fields::new(&account), Fields::new(&account));
        one.append("a", vec![b'x'; 600]).expect("there is room");
        assert_eq!(other.append("b", vec![b'x'; 600]), Err(HeaderError::SizeExceeded));
        assert_eq!(other.set("b", vec![vec![b'x'; 600]]), Err(HeaderError::SizeExceeded));
        assert!(one.duplicate(&account).is_none(), "nor for a copy");
        let list = || vec![("c".to_string(), vec![b'x'; 600])];
        assert_eq!(Fields::from_list(&account, list()).err(), Some(HeaderError::SizeExceeded));
        one.delete("a").expect("it can be changed");
        other.append("b", vec![b'x'; 600]).expect("there is room again");
        drop(other);
        let made = Fields::from_list(&account, list()).expect("and again");
        assert_eq!(made.get_and_delete("c").map(|values| values.len()), Ok(1));
        one.append("a", vec![b'x'; 900]).expect("and again");
    }

    #[test]
    fn fields_from_outside_are_not_the_guests_until_it_copies_them() {
        let account = Account::new(100);
        let map = [(HeaderName::from_static("a"), HeaderValue::from_bytes(&[b'x'; 200]).expect("valid"))];
        let received = Fields::received(map.into_iter().collect());
        assert!(received.duplicate(&account).is_none());
        let copied = copy(&received);
        assert_eq!(copied.delete("a"), Ok(()), "however large it is");
    }
}
