//! Constants of a script as values, and results compared with constants.

use crate::host::value::dynamic::Value;
use anyhow::{Result, bail, ensure};
use wast::component::WastVal;
use wast::core::{NanPattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// An argument of an `invoke`.
pub(super) fn argument(arg: &WastArg<'_>) -> Result<Value> {
    Ok(match arg {
        WastArg::Component(value) => constant(value),
        // The text of these two is the same for core functions and components.
        WastArg::Core(WastArgCore::F32(value)) => Value::Float32(f32::from_bits(value.bits)),
        WastArg::Core(WastArgCore::F64(value)) => Value::Float64(f64::from_bits(value.bits)),
        other => bail!("unsupported: the argument {other:?} is not a component value"),
    })
}

fn constant(value: &WastVal<'_>) -> Value {
    let all = |values: &[WastVal<'_>]| values.iter().map(constant).collect();
    let boxed = |value: &Option<Box<WastVal<'_>>>| value.as_ref().map(|value| Box::new(constant(value)));
    match value {
        WastVal::Bool(v) => Value::Bool(*v),
        WastVal::U8(v) => Value::U8(*v),
        WastVal::S8(v) => Value::S8(*v),
        WastVal::U16(v) => Value::U16(*v),
        WastVal::S16(v) => Value::S16(*v),
        WastVal::U32(v) => Value::U32(*v),
        WastVal::S32(v) => Value::S32(*v),
        WastVal::U64(v) => Value::U64(*v),
        WastVal::S64(v) => Value::S64(*v),
        WastVal::F32(v) => Value::Float32(f32::from_bits(v.bits)),
        WastVal::F64(v) => Value::Float64(f64::from_bits(v.bits)),
        WastVal::Char(v) => Value::Char(*v),
        WastVal::String(v) => Value::String((*v).to_string()),
        WastVal::List(values) => Value::List(all(values)),
        WastVal::Record(fields) => {
            Value::Record(fields.iter().map(|(name, value)| ((*name).to_string(), constant(value))).collect())
        }
        WastVal::Tuple(values) => Value::Tuple(all(values)),
        WastVal::Variant(name, payload) => Value::Variant((*name).to_string(), boxed(payload)),
        WastVal::Enum(name) => Value::Enum((*name).to_string()),
        WastVal::Option(payload) => Value::Option(boxed(payload)),
        WastVal::Result(Ok(payload)) => Value::Result(Ok(boxed(payload))),
        WastVal::Result(Err(payload)) => Value::Result(Err(boxed(payload))),
        WastVal::Flags(names) => Value::Flags(names.iter().map(|name| (*name).to_string()).collect()),
    }
}

/// Is what a call gave what the script expects?
pub(super) fn expect(actual: Option<&Value>, expected: &[WastRet<'_>]) -> Result<()> {
    match (actual, expected) {
        (None, []) => Ok(()),
        (Some(actual), [expected]) => {
            let same = match expected {
                WastRet::Component(expected) => same(actual, &constant(expected)),
                WastRet::Core(WastRetCore::F32(pattern)) => match actual {
                    Value::Float32(v) => float(pattern, |f| f.bits, v.to_bits(), 0x7fff_ffff, 0x7fc0_0000),
                    _ => false,
                },
                WastRet::Core(WastRetCore::F64(pattern)) => match actual {
                    Value::Float64(v) => {
                        float(pattern, |f| f.bits, v.to_bits(), i64::MAX as u64, 0x7ff8_0000_0000_0000)
                    }
                    _ => false,
                },
                other => bail!("unsupported: the result {other:?} is not a component value"),
            };
            ensure!(same, "expected {}, got {actual:?}", shown(expected));
            Ok(())
        }
        (None, _) => bail!("expected a result, got none"),
        (Some(actual), _) => bail!("expected no result, got {actual:?}"),
    }
}

fn shown(expected: &WastRet<'_>) -> String {
    match expected {
        WastRet::Component(expected) => format!("{:?}", constant(expected)),
        other => format!("{other:?}"),
    }
}

/// The canonical NaN has only the topmost bit of its fraction, an arithmetic one has it among others.
fn float<F, B>(pattern: &NanPattern<F>, bits: impl Fn(&F) -> B, actual: B, magnitude: B, canonical: B) -> bool
where
    B: Copy + PartialEq + std::ops::BitAnd<Output = B>,
{
    match pattern {
        NanPattern::CanonicalNan => actual & magnitude == canonical,
        NanPattern::ArithmeticNan => actual & canonical == canonical,
        NanPattern::Value(value) => actual == bits(value),
    }
}

/// Bit for bit, except that flags have no order.
fn same(actual: &Value, expected: &Value) -> bool {
    let both = |actual: &Option<Box<Value>>, expected: &Option<Box<Value>>| match (actual, expected) {
        (Some(actual), Some(expected)) => same(actual, expected),
        (None, None) => true,
        _ => false,
    };
    match (actual, expected) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::U8(a), Value::U8(b)) => a == b,
        (Value::S8(a), Value::S8(b)) => a == b,
        (Value::U16(a), Value::U16(b)) => a == b,
        (Value::S16(a), Value::S16(b)) => a == b,
        (Value::U32(a), Value::U32(b)) => a == b,
        (Value::S32(a), Value::S32(b)) => a == b,
        (Value::U64(a), Value::U64(b)) => a == b,
        (Value::S64(a), Value::S64(b)) => a == b,
        (Value::Float32(a), Value::Float32(b)) => a.to_bits() == b.to_bits(),
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits(),
        (Value::Char(a), Value::Char(b)) => a == b,
        (Value::String(a), Value::String(b)) | (Value::Enum(a), Value::Enum(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
        }
        (Value::Record(a), Value::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (Value::Variant(a, x), Value::Variant(b, y)) => a == b && both(x, y),
        (Value::Option(a), Value::Option(b)) => both(a, b),
        (Value::Result(Ok(a)), Value::Result(Ok(b))) | (Value::Result(Err(a)), Value::Result(Err(b))) => both(a, b),
        (Value::Flags(a), Value::Flags(b)) => a.len() == b.len() && a.iter().all(|name| b.contains(name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::expect;
    use crate::host::value::dynamic::Value;
    use wast::parser::{self, ParseBuffer};
    use wast::{Wast, WastDirective};

    /// Does `actual` match the results in `expected`, as a script has them?
    fn check(actual: Option<Value>, expected: &str) -> Result<(), String> {
        let text = format!(r#"(assert_return (invoke "f") {expected})"#);
        let buffer = ParseBuffer::new(&text).unwrap();
        let wast: Wast<'_> = parser::parse(&buffer).unwrap();
        let [WastDirective::AssertReturn { results, .. }] = &wast.directives[..] else { panic!("one assertion") };
        expect(actual.as_ref(), results).map_err(|error| error.to_string())
    }

    #[test]
    fn floats_are_compared_by_their_bits_and_nans_by_pattern() {
        let f32 = |bits| Some(Value::Float32(f32::from_bits(bits)));
        assert_eq!(check(f32(0x7fc0_0000), "(f32.const nan:canonical)"), Ok(()));
        assert_eq!(check(f32(0xffc0_0000), "(f32.const nan:canonical)"), Ok(()));
        assert!(check(f32(0x7fc0_0001), "(f32.const nan:canonical)").is_err());
        assert_eq!(check(f32(0x7fc0_0001), "(f32.const nan:arithmetic)"), Ok(()));
        assert!(check(f32(0x7f80_0001), "(f32.const nan:arithmetic)").is_err());
        assert!(check(f32(0x8000_0000), "(f32.const 0)").is_err());
        assert_eq!(check(Some(Value::Float64(-0.0)), "(f64.const -0)"), Ok(()));
        assert_eq!(check(Some(Value::Float64(f64::NAN)), "(f64.const nan:canonical)"), Ok(()));
        assert!(check(Some(Value::U32(0)), "(f32.const 0)").is_err());
    }

    #[test]
    fn a_result_is_there_or_not() {
        assert_eq!(check(None, ""), Ok(()));
        assert_eq!(check(None, "(u8.const 1)"), Err("expected a result, got none".into()));
        assert_eq!(check(Some(Value::U8(1)), ""), Err("expected no result, got U8(1)".into()));
        assert_eq!(check(Some(Value::U8(1)), "(u16.const 1)"), Err("expected U16(1), got U8(1)".into()));
    }

    #[test]
    fn parts_are_compared_one_by_one() {
        let list = |values: &[u8]| Some(Value::List(values.iter().map(|v| Value::U8(*v)).collect()));
        assert_eq!(check(list(&[1, 2]), "(list.const (u8.const 1) (u8.const 2))"), Ok(()));
        assert!(check(list(&[1]), "(list.const (u8.const 1) (u8.const 2))").is_err());
        assert!(check(list(&[1, 3]), "(list.const (u8.const 1) (u8.const 2))").is_err());
        let flags = Some(Value::Flags(vec!["a".into(), "b".into()]));
        assert_eq!(check(flags, r#"(flags.const "b" "a")"#), Ok(()));
        let none = Some(Value::Variant("x".into(), None));
        assert!(check(none, r#"(variant.const "x" (u8.const 1))"#).is_err());
        assert!(check(Some(Value::Result(Err(None))), "(result.ok)").is_err());
    }
}
