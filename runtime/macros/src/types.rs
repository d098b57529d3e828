//! WIT types as Rust types: what a type is called, and which definition each named one gets.

use crate::define::Head;
use crate::derive;
use crate::names;
use crate::parse::{Options, seen_from};
use crate::wit::{Interface, Place, Wit};

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote};
use syn::{Error, Result};
use wit_parser::{Handle, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner};

/// How deep an interface's module is below the macro's place.
const MODULE_DEPTH: usize = 3;

/// The types of one interface.
pub struct Types<'a> {
    pub wit: &'a Wit,
    pub options: &'a Options,
    pub interface: &'a Interface,
}

impl Types<'_> {
    pub fn resolve(&self) -> &Resolve {
        &self.wit.resolve
    }

    /// `interflow`, as seen from the interface's module.
    pub fn root(&self) -> impl ToTokens + use<> {
        seen_from(&self.options.root, MODULE_DEPTH)
    }

    /// An error about the interface as a whole.
    pub fn error(&self, message: String) -> Error {
        Error::new(self.options.selection.span(), format!("{}: {message}", self.interface.name))
    }

    /// All named types of the interface.
    pub fn definitions(&self) -> Result<TokenStream> {
        let types = self.resolve().interfaces[self.interface.id].types.values();
        types.map(|id| self.definition(*id)).collect()
    }

    fn definition(&self, id: TypeId) -> Result<TokenStream> {
        let def = &self.resolve().types[id];
        let head = Head {
            name: names::ty(def.name.as_deref().unwrap_or_default()),
            docs: names::docs(&def.docs),
            derives: derive::derives(self.resolve(), def),
        };
        match &def.kind {
            TypeDefKind::Record(record) => self.record(head, &record.fields),
            TypeDefKind::Variant(variant) => self.variant(head, variant),
            TypeDefKind::Enum(cases) => Ok(self.enumeration(head, cases)),
            TypeDefKind::Flags(flags) => self.flags(head, flags),
            TypeDefKind::Resource => self.resource(head, id),
            TypeDefKind::Type(Type::Id(other)) if self.is_foreign(*other) => self.used(head, *other),
            kind => {
                let Head { name, docs, .. } = head;
                let ty = self.structure(kind)?;
                Ok(quote! { #docs pub type #name = #ty; })
            }
        }
    }

    /// The Rust type for a WIT type.
    pub fn rust(&self, ty: &Type) -> Result<TokenStream> {
        Ok(match ty {
            Type::Bool => quote!(::core::primitive::bool),
            Type::U8 => quote!(::core::primitive::u8),
            Type::U16 => quote!(::core::primitive::u16),
            Type::U32 => quote!(::core::primitive::u32),
            Type::U64 => quote!(::core::primitive::u64),
            Type::S8 => quote!(::core::primitive::i8),
            Type::S16 => quote!(::core::primitive::i16),
            Type::S32 => quote!(::core::primitive::i32),
            Type::S64 => quote!(::core::primitive::i64),
            Type::F32 => quote!(::core::primitive::f32),
            Type::F64 => quote!(::core::primitive::f64),
            Type::Char => quote!(::core::primitive::char),
            Type::String => quote!(::std::string::String),
            Type::ErrorContext => {
                return Err(self.error("error-context is not supported".to_owned()));
            }
            Type::Id(id) => match &self.resolve().types[*id] {
                TypeDef { name: Some(name), .. } => names::ty(name).into_token_stream(),
                TypeDef { kind, .. } => self.structure(kind)?,
            },
        })
    }

    /// The Rust type for an optional WIT type; `()` for none.
    pub fn rust_or_unit(&self, ty: &Option<Type>) -> Result<TokenStream> {
        ty.as_ref().map_or_else(|| Ok(quote!(())), |ty| self.rust(ty))
    }

    /// A type that is made of others without a definition of its own.
    fn structure(&self, kind: &TypeDefKind) -> Result<TokenStream> {
        let root = self.root();
        Ok(match kind {
            TypeDefKind::Type(ty) => self.rust(ty)?,
            TypeDefKind::Handle(Handle::Own(id)) => {
                let resource = self.rust(&Type::Id(*id))?;
                quote!(#root::host::value::Own<#resource>)
            }
            TypeDefKind::Handle(Handle::Borrow(id)) => {
                let resource = self.rust(&Type::Id(*id))?;
                quote!(#root::host::value::Borrow<#resource>)
            }
            TypeDefKind::Tuple(tuple) => {
                let types = tuple.types.iter().map(|ty| self.rust(ty)).collect::<Result<Vec<_>>>()?;
                quote!((#(#types,)*))
            }
            TypeDefKind::Option(ty) => {
                let ty = self.rust(ty)?;
                quote!(::core::option::Option<#ty>)
            }
            TypeDefKind::Result(result) => {
                let (ok, err) = (self.rust_or_unit(&result.ok)?, self.rust_or_unit(&result.err)?);
                quote!(::core::result::Result<#ok, #err>)
            }
            TypeDefKind::List(ty) => {
                let ty = self.rust(ty)?;
                quote!(::std::vec::Vec<#ty>)
            }
            TypeDefKind::FixedLengthList(ty, len) => {
                let (ty, len) = (self.rust(ty)?, Literal::u32_unsuffixed(*len));
                quote!([#ty; #len])
            }
            TypeDefKind::Stream(ty) => {
                let ty = self.rust_or_unit(ty)?;
                quote!(#root::host::stream::StreamReader<#ty>)
            }
            TypeDefKind::Future(ty) => {
                let ty = self.rust_or_unit(ty)?;
                quote!(#root::host::stream::FutureReader<#ty>)
            }
            other => return Err(self.error(format!("a {} is not supported here", other.as_str()))),
        })
    }

    /// Is the type another interface's?
    fn is_foreign(&self, id: TypeId) -> bool {
        self.resolve().types[id].owner != TypeOwner::Interface(self.interface.id)
    }

    /// A type that the interface `use`s: the same Rust type under its name here.
    fn used(&self, head: Head, id: TypeId) -> Result<TokenStream> {
        let def = &self.resolve().types[id];
        let TypeOwner::Interface(owner) = def.owner else {
            return Err(self.error("uses a type that no interface owns".to_owned()));
        };
        let module = match self.wit.interface(owner).map(|interface| &interface.place) {
            Some(Place::Here { namespace, package, module }) => {
                let supers = (0..MODULE_DEPTH).map(|_| quote!(super::));
                quote!(#(#supers)* #namespace::#package::#module)
            }
            Some(Place::Elsewhere(path)) => seen_from(path, MODULE_DEPTH).into_token_stream(),
            None => return Err(self.error("uses an interface that is not generated".to_owned())),
        };
        let Head { name, docs, .. } = head;
        let original = names::ty(def.name.as_deref().unwrap_or_default());
        Ok(quote! { #docs pub use #module::#original as #name; })
    }

    fn resource(&self, head: Head, id: TypeId) -> Result<TokenStream> {
        let Some(path) = self.wit.resources.get(&id) else {
            return Err(self.error("a resource has no Rust type".to_owned()));
        };
        let Head { name, docs, .. } = head;
        let path = seen_from(path, MODULE_DEPTH);
        Ok(quote! { #docs pub type #name = #path; })
    }

    /// `interflow::host::value`
    pub fn value(&self) -> TokenStream {
        let root = self.root();
        quote!(#root::host::value)
    }
}
