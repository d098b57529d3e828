//! What can be said about values without a guest: layouts against the engine's own, type checks and their messages,
//! failures, and the borders of memory.

use super::check::Check;
use super::variant::VariantLayout;
use super::{ComponentType, Failure, InterfaceType, Layout, OrTrap, Own, TypeChecker, check, memory};
use crate::component::width::PointerWidth;

use wasmparser::Validator;
use wasmtime_environ::component::{
    CanonicalAbiInfo, Component, ComponentTypes, ComponentTypesBuilder, RecordField, TypeEnum, TypeFlags, TypeList,
    TypeOption, TypeRecord, TypeResult, TypeTuple, TypeVariant, VariantInfo,
};

/// Types of every kind, and `ComponentTypes` that hold them.
struct Types {
    all: ComponentTypes,
    /// `record point { x: s8, y: f64, z: u16 }`
    point: InterfaceType,
    /// `variant shape { none, text(string), many(tuple<u8, u64>) }`
    shape: InterfaceType,
    /// `enum color { red, green }`
    color: InterfaceType,
    /// `flags access { read, write }`
    access: InterfaceType,
    /// `list<option<string>>`
    list: InterfaceType,
    /// `result<_, u32>`
    result: InterfaceType,
    /// `tuple<u8, u64>`
    tuple: InterfaceType,
    /// `tuple<>`: no parameters, no result.
    nothing: InterfaceType,
}

impl Types {
    fn new() -> Types {
        let mut types = ComponentTypesBuilder::new(&Validator::new());
        let field = |name: &str, ty| RecordField { name: name.to_owned(), ty };
        let tuple = types.add_tuple_type(TypeTuple {
            types: [InterfaceType::U8, InterfaceType::U64].into(),
            abi: CanonicalAbiInfo::record_static(&[CanonicalAbiInfo::SCALAR1, CanonicalAbiInfo::SCALAR8]),
        });
        let tuple = InterfaceType::Tuple(tuple);
        let nothing = types.add_tuple_type(TypeTuple { types: [].into(), abi: CanonicalAbiInfo::ZERO });
        let point = types.add_record_type(TypeRecord {
            fields: [field("x", InterfaceType::S8), field("y", InterfaceType::Float64), field("z", InterfaceType::U16)]
                .into(),
            abi: CanonicalAbiInfo::ZERO,
        });
        let no_info = VariantInfo::new_static(&[None]);
        let cases = [("none", None), ("text", Some(InterfaceType::String)), ("many", Some(tuple))];
        let shape = types.add_variant_type(TypeVariant {
            cases: cases.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect(),
            abi: CanonicalAbiInfo::ZERO,
            info: no_info.clone(),
        });
        let color = types.add_enum_type(TypeEnum {
            names: ["red", "green"].map(str::to_owned).into_iter().collect(),
            abi: CanonicalAbiInfo::ZERO,
            info: no_info.clone(),
        });
        let access = types.add_flags_type(TypeFlags {
            names: ["read", "write"].map(str::to_owned).into_iter().collect(),
            abi: CanonicalAbiInfo::ZERO,
        });
        let option = types.add_option_type(TypeOption {
            ty: InterfaceType::String,
            abi: CanonicalAbiInfo::ZERO,
            info: no_info.clone(),
        });
        let list = types.add_list_type(TypeList { element: InterfaceType::Option(option) });
        let result = types.add_result_type(TypeResult {
            ok: None,
            err: Some(InterfaceType::U32),
            abi: CanonicalAbiInfo::ZERO,
            info: no_info,
        });
        let (all, _) = types.finish(&Component::default());
        Types {
            all,
            point: InterfaceType::Record(point),
            shape: InterfaceType::Variant(shape),
            color: InterfaceType::Enum(color),
            access: InterfaceType::Flags(access),
            list: InterfaceType::List(list),
            result: InterfaceType::Result(result),
            tuple,
            nothing: InterfaceType::Tuple(nothing),
        }
    }

    fn checker(&self) -> TypeChecker<'_> {
        TypeChecker { types: &self.all, resource: &|_| None }
    }

    fn check<T: ComponentType>(&self, ty: InterfaceType) -> Result<(), String> {
        T::check(&ty, &self.checker())
    }
}

/// Is the layout what the engine computes for the same shape, with pointers of both widths?
fn same(ours: Layout, engine: &CanonicalAbiInfo) {
    for width in [PointerWidth::Bits32, PointerWidth::Bits64] {
        assert_eq!(ours.at(width), width.place(engine), "{width:?}");
    }
    assert_eq!(Some(ours.flat), engine.flat_count.map(usize::from));
}

#[test]
fn layouts_are_those_of_the_engine() {
    let (one, two, four, eight) =
        (CanonicalAbiInfo::SCALAR1, CanonicalAbiInfo::SCALAR2, CanonicalAbiInfo::SCALAR4, CanonicalAbiInfo::SCALAR8);
    let pair = CanonicalAbiInfo::POINTER_PAIR;
    same(Layout::of::<bool>(), &one);
    same(Layout::of::<i16>(), &two);
    same(Layout::of::<char>(), &four);
    same(Layout::of::<f64>(), &eight);
    same(Layout::of::<String>(), &pair);
    same(Layout::of::<Vec<u64>>(), &pair);
    same(Layout::of::<Own<u8>>(), &four);
    same(Layout::of::<()>(), &CanonicalAbiInfo::ZERO);
    let record = CanonicalAbiInfo::record_static(&[one.clone(), eight.clone(), two.clone()]);
    same(Layout::of::<(u8, u64, u16)>(), &record);
    let option = CanonicalAbiInfo::variant_static(&[None, Some(record.clone())]);
    same(Layout::of::<Option<(i8, f64, i16)>>(), &option);
    same(Layout::of::<Result<(), ()>>(), &CanonicalAbiInfo::variant_static(&[None, None]));
    let result = CanonicalAbiInfo::variant_static(&[Some(pair), Some(option)]);
    same(Layout::of::<Result<String, Option<(u8, u64, u16)>>>(), &result);
    same(Layout::of::<[u16; 3]>(), &CanonicalAbiInfo::fixed_length_list_static(&two, 3));
}

#[test]
fn discriminants_and_flags_grow_with_their_names() {
    for cases in [1, 2, 256, 257, 65536, 65537] {
        same(Layout::enumeration(cases), &CanonicalAbiInfo::enum_(cases));
        let variant = VariantLayout::new(&vec![Layout::NOTHING; cases]);
        assert_eq!(variant.whole, Layout::enumeration(cases));
    }
    for labels in [1, 8, 9, 16, 17, 32] {
        same(Layout::flags(labels), &CanonicalAbiInfo::flags(labels));
    }
}

#[test]
fn a_type_that_fits_passes() {
    let types = Types::new();
    let checker = types.checker();
    types.check::<Vec<Option<String>>>(types.list).unwrap();
    types.check::<Result<(), u32>>(types.result).unwrap();
    types.check::<(u8, u64)>(types.tuple).unwrap();
    types.check::<()>(types.nothing).unwrap();
    let point: [(&str, Check); 3] = [("x", i8::check), ("y", f64::check), ("z", u16::check)];
    check::record(&types.point, &checker, &point).unwrap();
    let shape: [(&str, Option<Check>); 3] =
        [("none", None), ("text", Some(String::check)), ("many", Some(<(u8, u64)>::check))];
    check::variant(&types.shape, &checker, &shape).unwrap();
    check::enumeration(&types.color, &checker, &["red", "green"]).unwrap();
    check::flags(&types.access, &checker, &["read", "write"]).unwrap();
}

#[test]
fn a_type_that_does_not_fit_is_refused_with_the_place() {
    let types = Types::new();
    let checker = types.checker();
    let says = |result: Result<(), String>, message: &str| assert_eq!(result, Err(message.to_owned()));
    says(types.check::<u32>(InterfaceType::S32), "expected u32, found s32");
    says(types.check::<Vec<Option<u8>>>(types.list), "list element: option: expected u8, found string");
    says(types.check::<Result<u8, u32>>(types.result), "result ok: expected a payload, found none");
    says(types.check::<Result<(), ()>>(types.result), "result error: expected no payload, found u32");
    says(types.check::<(u8,)>(types.tuple), "expected 1 values, found 2");
    says(types.check::<(u8, u32)>(types.tuple), "value 1: expected u32, found u64");
    says(types.check::<()>(types.tuple), "expected no value, found tuple");
    says(types.check::<Own<u8>>(types.color), "expected owned handle, found enum");
    let swapped: [(&str, Check); 3] = [("y", f64::check), ("x", i8::check), ("z", u16::check)];
    says(check::record(&types.point, &checker, &swapped), "fields differ: expected \"y\", found \"x\"");
    let wrong: [(&str, Check); 3] = [("x", i8::check), ("y", f32::check), ("z", u16::check)];
    says(check::record(&types.point, &checker, &wrong), "field \"y\": expected f32, found f64");
    says(check::record(&types.point, &checker, &wrong[..2]), "expected 2 fields, found 3");
    let shape: [(&str, Option<Check>); 3] = [("none", None), ("text", None), ("many", None)];
    says(check::variant(&types.shape, &checker, &shape), "case \"text\": expected no payload, found string");
    says(
        check::enumeration(&types.color, &checker, &["red", "blue"]),
        "cases differ: expected \"blue\", found \"green\"",
    );
    says(check::flags(&types.access, &checker, &["read"]), "expected 1 labels, found 2");
}

#[test]
fn a_failure_is_a_code_for_the_guest_or_a_trap() {
    fn fails(how: &str) -> Result<u8, Failure<u32>> {
        match how {
            "code" => Err(7)?,
            "trap" => return Err(Failure::trap("broke a rule")),
            "engine" => Err(wasmtime::Error::msg("engine says no")).or_trap()?,
            _ => {}
        }
        Ok(1)
    }
    assert_eq!(Failure::split(fails("not")).unwrap(), Ok(1));
    assert_eq!(Failure::split(fails("code")).unwrap(), Err(7));
    assert_eq!(Failure::split(fails("trap")).unwrap_err().to_string(), "broke a rule");
    assert_eq!(Failure::split(fails("engine")).unwrap_err().to_string(), "engine says no");
}

#[test]
fn no_address_reaches_outside_of_memory() {
    let mut bytes = [1u8, 2, 3, 4];
    assert_eq!(memory::read::<2>(&bytes, 2).unwrap(), [3, 4]);
    assert!(memory::slice(&bytes, 4, 0).unwrap().is_empty());
    for (at, len) in [(3, 2), (4, 1), (5, 0), (usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
        assert!(memory::slice(&bytes, at, len).is_err(), "{len} bytes at {at}");
        assert!(memory::slice_mut(&mut bytes, at, len).is_err(), "{len} bytes at {at}");
    }
    for at in [3, 4, 5, usize::MAX - 1, usize::MAX] {
        assert!(memory::read::<2>(&bytes, at).is_err(), "2 bytes at {at}");
        assert!(memory::write(&mut bytes, at, [9, 9]).is_err(), "2 bytes at {at}");
    }
    assert_eq!(bytes, [1, 2, 3, 4], "a refused write writes nothing");
}

#[test]
fn a_misaligned_pointer_is_refused() {
    assert_eq!(memory::aligned(8, 8).unwrap(), 8);
    assert_eq!(memory::aligned(3, 1).unwrap(), 3);
    let message = memory::aligned(4, 8).unwrap_err().to_string();
    assert_eq!(message, "pointer 0x4 is not aligned to 8");
}
