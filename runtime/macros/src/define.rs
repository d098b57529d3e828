//! Types that have a definition of their own: records, variants, enums and flags, each with its Rust type and its
//! `ComponentType`, `Lift` and `Lower`. The code uses `cx`, `ty`, `src`, `dst`, `at` and `types` as the traits name
//! them, and `LAYOUT` for a variant's layout.

use crate::names;
use crate::types::Types;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;
use syn::Result;
use wit_parser::{Case, Enum, Field, Flags, Variant};

/// What a defined type is called and derives.
pub struct Head {
    pub name: Ident,
    pub docs: TokenStream,
    pub derives: TokenStream,
}

/// One component of a record or variant: its WIT name, its Rust name, its Rust type.
struct Part {
    wit: String,
    rust: Ident,
    docs: TokenStream,
    ty: Option<TokenStream>,
}

/// The bodies of the generated methods.
struct Methods {
    check: TokenStream,
    lift: TokenStream,
    load: TokenStream,
    lower: TokenStream,
    store: TokenStream,
}

impl Types<'_> {
    /// A struct.
    pub fn record(&self, head: Head, fields: &[Field]) -> Result<TokenStream> {
        let Head { name, docs, derives } = head;
        let (mut names, mut rust, mut types, mut field_docs) = (vec![], vec![], vec![], vec![]);
        for field in fields {
            names.push(&field.name);
            rust.push(names::field(&field.name));
            types.push(self.rust(&field.ty)?);
            field_docs.push(names::docs(&field.docs));
        }
        let index: Vec<Literal> = (0..fields.len()).map(Literal::usize_unsuffixed).collect();
        let (value, ok) = (self.value(), ok());
        let methods = Methods {
            check: quote! {
                #value::check::record(ty, types, &[#((#names, <#types as #value::ComponentType>::check)),*])
            },
            lift: quote! {
                let fields = #value::record::fields(ty, cx.types());
                #ok(Self { #(#rust: <#types as #value::Lift>::lift(cx, fields[#index].ty, src)?),* })
            },
            load: quote! {
                let fields = #value::record::fields(ty, cx.types());
                let mut at = at;
                #ok(Self { #(#rust: #value::record::load_field::<#types>(cx, fields[#index].ty, &mut at)?),* })
            },
            lower: quote! {
                let fields = #value::record::fields(ty, cx.types());
                #(<#types as #value::Lower>::lower(self.#rust, cx, fields[#index].ty, dst)?;)*
                #ok(())
            },
            store: quote! {
                let fields = #value::record::fields(ty, cx.types());
                let mut at = at;
                #(#value::record::store_field::<#types>(self.#rust, cx, fields[#index].ty, &mut at)?;)*
                #ok(())
            },
        };
        let layout = quote! { #value::Layout::record(&[#(#value::Layout::of::<#types>()),*]) };
        let impls = self.impls(&name, &layout, &TokenStream::new(), &methods);
        Ok(quote! {
            #docs
            #derives
            pub struct #name { #(#field_docs pub #rust: #types,)* }
            #impls
        })
    }

    /// A Rust enum whose cases carry their payloads.
    pub fn variant(&self, head: Head, variant: &Variant) -> Result<TokenStream> {
        let Head { name, docs, derives } = head;
        let parts = variant.cases.iter().map(|case| self.case(case)).collect::<Result<Vec<_>>>()?;
        let value = self.value();
        let definitions = parts.iter().map(|Part { rust, docs, ty, .. }| match ty {
            Some(ty) => quote!(#docs #rust(#ty)),
            None => quote!(#docs #rust),
        });
        let checks = parts.iter().map(|Part { wit, ty, .. }| match ty {
            Some(ty) => {
                quote!((#wit, ::core::option::Option::Some(<#ty as #value::ComponentType>::check)))
            }
            None => quote!((#wit, ::core::option::Option::None)),
        });
        let layouts = parts.iter().map(|Part { ty, .. }| match ty {
            Some(ty) => quote!(#value::Layout::of::<#ty>()),
            None => quote!(#value::Layout::NOTHING),
        });
        let lift = self.take_cases(&parts, &word("lift_payload"), &word("src"));
        let load = self.take_cases(&parts, &word("load_payload"), &word("at"));
        let lower = self.give_cases(&parts, &word("lower_case"), &word("dst"));
        let store = self.give_cases(&parts, &word("store_case"), &word("at"));
        let methods = Methods {
            check: quote! { #value::check::variant(ty, types, &[#(#checks),*]) },
            lift: quote! {
                match LAYOUT.lift_case(src)? { #lift case => #value::variant::no_such_case(case) }
            },
            load: quote! {
                match LAYOUT.load_case(cx, at)? { #load case => #value::variant::no_such_case(case) }
            },
            lower: quote! { match self { #lower } },
            store: quote! { match self { #store } },
        };
        let constants = quote! {
            const LAYOUT: #value::variant::VariantLayout = #value::variant::VariantLayout::new(&[#(#layouts),*]);
        };
        let impls = self.impls(&name, &quote!(LAYOUT.whole), &constants, &methods);
        Ok(quote! {
            #docs
            #derives
            pub enum #name { #(#definitions,)* }
            #impls
        })
    }

    /// The arms that make a variant of its case number, taking the payload from `from`.
    fn take_cases(&self, cases: &[Part], method: &Ident, from: &Ident) -> TokenStream {
        let (value, ok) = (self.value(), ok());
        let arms = cases.iter().enumerate().map(|(i, Part { rust, ty, .. })| {
            let i = Literal::usize_unsuffixed(i);
            match ty {
                Some(ty) => quote! {
                    #i => {
                        let payload = #value::variant::payload_type(ty, cx.types(), #i);
                        #ok(Self::#rust(LAYOUT.#method::<#ty>(cx, payload, #from)?))
                    }
                },
                None => quote! {
                    #i => {
                        LAYOUT.#method::<()>(cx, #value::NO_TYPE, #from)?;
                        #ok(Self::#rust)
                    }
                },
            }
        });
        arms.collect()
    }

    /// The arms that give a variant's case number, and its payload to `to`.
    fn give_cases(&self, cases: &[Part], method: &Ident, to: &Ident) -> TokenStream {
        let value = self.value();
        let arms = cases.iter().enumerate().map(|(i, Part { rust, ty, .. })| {
            let i = Literal::usize_unsuffixed(i);
            match ty {
                Some(_) => quote! {
                    Self::#rust(payload) => {
                        let payload_type = #value::variant::payload_type(ty, cx.types(), #i);
                        LAYOUT.#method(#i, payload, cx, payload_type, #to)
                    }
                },
                None => quote! { Self::#rust => LAYOUT.#method(#i, (), cx, #value::NO_TYPE, #to), },
            }
        });
        arms.collect()
    }

    fn case(&self, case: &Case) -> Result<Part> {
        Ok(Part {
            wit: case.name.clone(),
            rust: names::case(&case.name),
            docs: names::docs(&case.docs),
            ty: case.ty.as_ref().map(|ty| self.rust(ty)).transpose()?,
        })
    }

    /// A Rust enum with the discriminants of the component model.
    pub fn enumeration(&self, head: Head, cases: &Enum) -> TokenStream {
        let Head { name, docs, derives } = head;
        let (value, ok) = (self.value(), ok());
        let wit: Vec<&String> = cases.cases.iter().map(|case| &case.name).collect();
        let rust: Vec<Ident> = cases.cases.iter().map(|case| names::case(&case.name)).collect();
        let case_docs = cases.cases.iter().map(|case| names::docs(&case.docs));
        let index: Vec<Literal> = (0..wit.len()).map(Literal::usize_unsuffixed).collect();
        let count = Literal::usize_unsuffixed(wit.len());
        let methods = Methods {
            check: quote! { #value::check::enumeration(ty, types, &[#(#wit),*]) },
            lift: quote! {
                match LAYOUT.lift_case(src)? { #(#index => #ok(Self::#rust),)* case => #value::variant::no_such_case(case) }
            },
            load: quote! {
                match LAYOUT.load_case(cx, at)? { #(#index => #ok(Self::#rust),)* case => #value::variant::no_such_case(case) }
            },
            lower: quote! { LAYOUT.lower_case(self as ::core::primitive::u32, (), cx, ty, dst) },
            store: quote! { LAYOUT.store_case(self as ::core::primitive::u32, (), cx, ty, at) },
        };
        let constants = quote! {
            const LAYOUT: #value::variant::VariantLayout =
                #value::variant::VariantLayout::new(&[#value::Layout::NOTHING; #count]);
        };
        let impls = self.impls(&name, &quote!(LAYOUT.whole), &constants, &methods);
        quote! {
            #docs
            #derives
            pub enum #name { #(#case_docs #rust = #index,)* }
            #impls
        }
    }

    /// A newtype over the integer that carries the flags, with the usual operations of a set.
    pub fn flags(&self, head: Head, flags: &Flags) -> Result<TokenStream> {
        let Head { name, docs, derives } = head;
        let value = self.value();
        let bits = match flags.flags.len() {
            0..=8 => quote!(::core::primitive::u8),
            9..=16 => quote!(::core::primitive::u16),
            17..=32 => quote!(::core::primitive::u32),
            more => {
                return Err(self.error(format!("flags `{name}` have {more} labels; at most 32 are allowed")));
            }
        };
        let wit: Vec<&String> = flags.flags.iter().map(|flag| &flag.name).collect();
        let consts = flags.flags.iter().enumerate().map(|(i, flag)| {
            let (docs, flag, i) = (names::docs(&flag.docs), names::flag(&flag.name), Literal::usize_unsuffixed(i));
            quote! { #docs pub const #flag: Self = Self(1 << #i); }
        });
        // All ones below bit number `len`, also when that is the integer's last.
        let mask = (0..flags.flags.len()).fold(0u32, |mask, i| mask | 1 << i);
        let mask = Literal::u32_unsuffixed(mask);
        let methods = Methods {
            check: quote! { #value::check::flags(ty, types, &[#(#wit),*]) },
            lift: quote! { <#bits as #value::Lift>::lift(cx, ty, src).map(Self::from_bits_truncate) },
            load: quote! { <#bits as #value::Lift>::load(cx, ty, at).map(Self::from_bits_truncate) },
            lower: quote! { <#bits as #value::Lower>::lower(self.0, cx, ty, dst) },
            store: quote! { <#bits as #value::Lower>::store(self.0, cx, ty, at) },
        };
        let count = Literal::usize_unsuffixed(wit.len());
        let impls = self.impls(&name, &quote!(#value::Layout::flags(#count)), &TokenStream::new(), &methods);
        let set = set_operations(&name, &bits, &mask);
        Ok(quote! {
            #docs
            #derives
            pub struct #name(#bits);

            impl #name { #(#consts)* }

            #set
            #impls
        })
    }

    /// `ComponentType`, `Lift` and `Lower` for a defined type. A block of their own, so that `constants` and the
    /// prelude's names stay out of the way of WIT's.
    fn impls(&self, name: &Ident, layout: &TokenStream, constants: &TokenStream, methods: &Methods) -> TokenStream {
        let (root, value) = (self.root(), self.value());
        let Methods { check, lift, load, lower, store } = methods;
        let (result, ok_unit) = (quote!(#root::abi::Result), quote!(()));
        let ty = quote!(ty: #value::InterfaceType);
        let lift_cx = quote!(cx: &mut #root::abi::LiftCx<'_>);
        let lower_cx = quote!(cx: &mut #root::abi::LowerCx<'_>);
        let usize = quote!(::core::primitive::usize);
        quote! {
            const _: () = {
                #constants

                impl #value::ComponentType for #name {
                    const LAYOUT: #value::Layout = #layout;

                    fn check(
                        ty: &#value::InterfaceType,
                        types: &#value::TypeChecker<'_>,
                    ) -> ::core::result::Result<(), ::std::string::String> {
                        #check
                    }
                }

                impl #value::Lift for #name {
                    fn lift(#lift_cx, #ty, src: &mut #root::abi::FlatSource<'_>) -> #result<Self> { #lift }
                    fn load(#lift_cx, #ty, at: #usize) -> #result<Self> { #load }
                }

                impl #value::Lower for #name {
                    fn lower(self, #lower_cx, #ty, dst: &mut #root::abi::FlatSink<'_>) -> #result<#ok_unit> { #lower }
                    fn store(self, #lower_cx, #ty, at: #usize) -> #result<#ok_unit> { #store }
                }
            };
        }
    }
}

/// What one does with a set of flags.
fn set_operations(name: &Ident, bits: &TokenStream, mask: &Literal) -> TokenStream {
    quote! {
        impl #name {
            /// No flag.
            pub const fn empty() -> Self { Self(0) }
            /// Every flag.
            pub const fn all() -> Self { Self(#mask) }
            /// The flags as an integer, the first in the lowest bit.
            pub const fn bits(self) -> #bits { self.0 }
            /// From an integer; bits that are no flags are dropped.
            pub const fn from_bits_truncate(bits: #bits) -> Self { Self(bits & #mask) }
            /// Is no flag set?
            pub const fn is_empty(self) -> ::core::primitive::bool { self.0 == 0 }
            /// Are all of `other`'s flags set?
            pub const fn contains(self, other: Self) -> ::core::primitive::bool { self.0 & other.0 == other.0 }
            /// Is any of `other`'s flags set?
            pub const fn intersects(self, other: Self) -> ::core::primitive::bool { self.0 & other.0 != 0 }
        }

        impl ::core::ops::BitOr for #name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self { Self(self.0 | other.0) }
        }
        impl ::core::ops::BitOrAssign for #name {
            fn bitor_assign(&mut self, other: Self) { self.0 |= other.0 }
        }
        impl ::core::ops::BitAnd for #name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self { Self(self.0 & other.0) }
        }
        impl ::core::ops::Sub for #name {
            type Output = Self;
            fn sub(self, other: Self) -> Self { Self(self.0 & !other.0) }
        }
    }
}

/// `Ok` by its full path: what the WIT calls its types is not known here.
fn ok() -> TokenStream {
    quote!(::core::result::Result::Ok)
}

fn word(text: &str) -> Ident {
    Ident::new(text, Span::call_site())
}
