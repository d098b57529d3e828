//! The functions of an interface: a trait of what a host implements, and the function that links it.

use crate::names;
use crate::types::Types;

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::Result;
use wit_parser::{Function, Resolve, Type, TypeDefKind};

/// One function, in Rust.
struct HostFunction<'a> {
    wit: &'a Function,
    /// Is it ready later?
    is_async: bool,
    name: Ident,
    parameters: Vec<Ident>,
    types: Vec<TokenStream>,
    returns: Returns,
}

/// What a function gives back; `T` and `E` of a `result` apart, since its `E` is an error of the host's function.
enum Returns {
    Value(TokenStream),
    Fallible { ok: TokenStream, err: TokenStream },
}

/// The trait `Host` and the function `link`, for an interface that has something to link.
pub fn host(types: &Types<'_>) -> Result<TokenStream> {
    let interface = &types.resolve().interfaces[types.interface.id];
    let resources: Vec<&String> = interface
        .types
        .iter()
        .filter(|(_, id)| matches!(types.resolve().types[**id].kind, TypeDefKind::Resource))
        .map(|(name, _)| name)
        .collect();
    if interface.functions.is_empty() && resources.is_empty() {
        return Ok(TokenStream::new());
    }
    let named = interface.functions.values().map(|function| (function, resource_name(types.resolve(), function)));
    let names = names::functions(named);
    let functions = interface.functions.values().zip(names);
    let functions = functions.map(|(wit, name)| function(types, wit, name)).collect::<Result<Vec<_>>>()?;
    let root = types.root();
    let id = &types.interface.name;
    let declarations = functions.iter().map(|function| declaration(types, function));
    let links = functions.iter().map(|function| link(types, function));
    let resource_types = resources.iter().map(|name| names::ty(name));
    let title = format!(" What a host implements for `{id}`.");
    let link_title = format!(" Links the functions and resources of `{id}` as `H` implements them.");
    Ok(quote! {
        #[doc = #title]
        pub trait Host: 'static {
            #(#declarations)*
        }

        #[doc = #link_title]
        pub fn link<H: Host>(linker: &mut #root::host::linker::Linker) {
            #(linker.resource::<#resource_types>(INTERFACE, #resources);)*
            #(#links)*
        }
    })
}

fn function<'a>(types: &Types<'_>, wit: &'a Function, name: Ident) -> Result<HostFunction<'a>> {
    Ok(HostFunction {
        wit,
        is_async: wit.kind.is_async() || types.wit.blocking.contains(&(types.interface.id, wit.name.clone())),
        name,
        parameters: wit.params.iter().map(|parameter| names::parameter(&parameter.name)).collect(),
        types: wit.params.iter().map(|parameter| types.rust(&parameter.ty)).collect::<Result<_>>()?,
        returns: returns(types, wit)?,
    })
}

/// The resource that a method, static function or constructor belongs to.
fn resource_name<'a>(resolve: &'a Resolve, function: &Function) -> Option<&'a str> {
    resolve.types[function.kind.resource()?].name.as_deref()
}

fn returns(types: &Types<'_>, wit: &Function) -> Result<Returns> {
    let mut result = wit.result;
    // A name for a `result` is as good as the `result` itself.
    while let Some(Type::Id(id)) = result {
        match &types.resolve().types[id].kind {
            TypeDefKind::Type(inner) => result = Some(*inner),
            TypeDefKind::Result(inner) => {
                let (ok, err) = (types.rust_or_unit(&inner.ok)?, types.rust_or_unit(&inner.err)?);
                return Ok(Returns::Fallible { ok, err });
            }
            _ => break,
        }
    }
    Ok(Returns::Value(types.rust_or_unit(&wit.result)?))
}

fn declaration(types: &Types<'_>, function: &HostFunction<'_>) -> TokenStream {
    let HostFunction { wit, is_async, name, parameters, types: parameter_types, returns } = function;
    let (root, value) = (types.root(), types.value());
    let docs = names::docs(&wit.docs);
    let returned = match (is_async, returns) {
        (false, Returns::Value(ty)) => quote!(#root::abi::Result<#ty>),
        (false, Returns::Fallible { ok, err }) => {
            quote!(::core::result::Result<#ok, #value::Failure<#err>>)
        }
        (true, Returns::Value(ty)) => quote!(#root::host::HostFuture<#ty>),
        (true, Returns::Fallible { ok, err }) => {
            quote!(#root::host::HostFuture<::core::result::Result<#ok, #err>>)
        }
    };
    quote! {
        #docs
        fn #name(cx: &mut #root::abi::HostCx<'_>, #(#parameters: #parameter_types),*) -> #returned;
    }
}

fn link(types: &Types<'_>, function: &HostFunction<'_>) -> TokenStream {
    let HostFunction { wit, is_async, name, parameters, types: parameter_types, returns } = function;
    let (root, value) = (types.root(), types.value());
    let wit_name = &wit.name;
    let call = quote!(H::#name(cx, #(#parameters),*));
    let result = match returns {
        Returns::Value(ty) => quote!(#ty),
        Returns::Fallible { ok, err } => quote!(::core::result::Result<#ok, #err>),
    };
    let (method, body) = match (is_async, returns) {
        (true, _) => (quote!(async_func), call),
        (false, Returns::Value(_)) => (quote!(func), call),
        (false, Returns::Fallible { .. }) => (quote!(func), quote!(#value::Failure::split(#call))),
    };
    quote! {
        linker.#method::<(#(#parameter_types,)*), #result, _>(
            INTERFACE,
            #wit_name,
            |cx: &mut #root::abi::HostCx<'_>, (#(#parameters,)*): (#(#parameter_types,)*)| #body,
        );
    }
}
