//! Which standard traits a generated type derives: `Debug` unless a stream is in it, `Clone` and `PartialEq` unless a
//! handle is, `Eq` and `Hash` unless a float is, `Copy` where all parts are.

use proc_macro2::TokenStream;
use quote::quote;
use wit_parser::{Resolve, Type, TypeDef, TypeDefKind};

/// Standard traits are implemented for tuples up to here.
const TUPLE_TRAITS_MAX: usize = 12;

/// The `derive` attribute for a type.
pub fn derives(resolve: &Resolve, def: &TypeDef) -> TokenStream {
    let traits = traits_of_def(resolve, def);
    let mut list = Vec::new();
    if traits.debug {
        list.push(quote!(Debug));
    }
    if traits.data {
        list.extend([quote!(Clone), quote!(PartialEq)]);
    }
    if traits.copy {
        list.push(quote!(Copy));
    }
    if traits.eq {
        list.extend([quote!(Eq), quote!(Hash)]);
    }
    if let TypeDefKind::Flags(_) = def.kind {
        list.push(quote!(Default));
    }
    match list.is_empty() {
        true => TokenStream::new(),
        false => quote! { #[derive(#(#list),*)] },
    }
}

/// Which standard traits a type can have.
#[derive(Clone, Copy)]
struct Traits {
    debug: bool,
    /// `Clone` and `PartialEq`: plain data, no handles.
    data: bool,
    eq: bool,
    copy: bool,
}

impl Traits {
    const SCALAR: Traits = Traits { debug: true, data: true, eq: true, copy: true };
    const FLOAT: Traits = Traits { eq: false, ..Traits::SCALAR };
    const HEAP: Traits = Traits { copy: false, ..Traits::SCALAR };
    const HANDLE: Traits = Traits { debug: true, data: false, eq: false, copy: false };
    const NONE: Traits = Traits { debug: false, ..Traits::HANDLE };

    fn and(self, other: Traits) -> Traits {
        Traits {
            debug: self.debug && other.debug,
            data: self.data && other.data,
            eq: self.eq && other.eq,
            copy: self.copy && other.copy,
        }
    }
}

fn traits(resolve: &Resolve, ty: &Type) -> Traits {
    match ty {
        Type::F32 | Type::F64 => Traits::FLOAT,
        Type::String => Traits::HEAP,
        Type::ErrorContext => Traits::NONE,
        Type::Id(id) => traits_of_def(resolve, &resolve.types[*id]),
        _ => Traits::SCALAR,
    }
}

fn traits_of_def(resolve: &Resolve, def: &TypeDef) -> Traits {
    let all =
        |types: &mut dyn Iterator<Item = &Type>| types.map(|ty| traits(resolve, ty)).fold(Traits::SCALAR, Traits::and);
    match &def.kind {
        TypeDefKind::Record(record) => all(&mut record.fields.iter().map(|field| &field.ty)),
        TypeDefKind::Variant(variant) => all(&mut variant.cases.iter().filter_map(|case| case.ty.as_ref())),
        TypeDefKind::Tuple(tuple) if tuple.types.len() > TUPLE_TRAITS_MAX => Traits::NONE,
        TypeDefKind::Tuple(tuple) => all(&mut tuple.types.iter()),
        TypeDefKind::Result(result) => all(&mut result.ok.iter().chain(&result.err)),
        TypeDefKind::Option(ty) | TypeDefKind::FixedLengthList(ty, _) | TypeDefKind::Type(ty) => traits(resolve, ty),
        TypeDefKind::List(ty) => traits(resolve, ty).and(Traits::HEAP),
        TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => Traits::SCALAR,
        TypeDefKind::Handle(_) | TypeDefKind::Resource => Traits::HANDLE,
        TypeDefKind::Stream(_) | TypeDefKind::Future(_) | TypeDefKind::Map(..) | TypeDefKind::Unknown => Traits::NONE,
    }
}
