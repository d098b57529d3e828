//! WIT names as Rust names, and WIT docs as Rust docs.

use heck::{ToShoutySnakeCase, ToSnakeCase, ToUpperCamelCase};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use wit_parser::{Docs, Function, FunctionKind};

/// A namespace, a package or an interface.
pub fn module(name: &str) -> Ident {
    ident(&name.to_snake_case())
}

/// A package with the version behind it, `clocks0_2`: what no name can contain becomes an underscore.
pub fn versioned_module(name: &str, version: &str) -> Ident {
    let version = version.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    ident(&format!("{}{version}", name.to_snake_case()))
}

/// A type. `Host` is the trait's name and `H` that of its implementation.
pub fn ty(name: &str) -> Ident {
    match name.to_upper_camel_case().as_str() {
        taken @ ("Host" | "H") => ident(&format!("{taken}_")),
        name => ident(name),
    }
}

/// A case of a variant or an enum.
pub fn case(name: &str) -> Ident {
    ident(&name.to_upper_camel_case())
}

/// A flag.
pub fn flag(name: &str) -> Ident {
    ident(&name.to_shouty_snake_case())
}

/// A field of a record.
pub fn field(name: &str) -> Ident {
    ident(&name.to_snake_case())
}

/// A parameter. `cx` is the context's.
pub fn parameter(name: &str) -> Ident {
    match name.to_snake_case().as_str() {
        "cx" => ident("cx_"),
        name => ident(name),
    }
}

/// The functions of an interface, in order. `resource` is the resource's WIT name where there is one.
pub fn functions<'a>(functions: impl Iterator<Item = (&'a Function, Option<&'a str>)>) -> Vec<Ident> {
    let mut names: Vec<Ident> = Vec::new();
    for (function, resource) in functions {
        let item = match function.kind {
            FunctionKind::Constructor(_) => "new",
            _ => function.item_name(),
        };
        let mut text = match resource {
            Some(resource) => format!("{resource}-{item}").to_snake_case(),
            None => item.to_snake_case(),
        };
        while names.iter().any(|name| *name == text) {
            text.push('_');
        }
        names.push(ident(&text));
    }
    names
}

/// An identifier, with a `_` behind where it would be a keyword.
fn ident(name: &str) -> Ident {
    match syn::parse_str::<Ident>(name) {
        Ok(ident) => ident,
        Err(_) => Ident::new(&format!("{name}_"), Span::call_site()),
    }
}

/// Doc comments. What markdown would take for code is not Rust, and must not become a doc test.
pub fn docs(docs: &Docs) -> TokenStream {
    let mut in_fence = false;
    let lines = docs.contents.iter().flat_map(|text| text.trim_end().lines()).map(|line| {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let is_fence = text.starts_with("```");
        let opens = is_fence && !in_fence;
        in_fence ^= is_fence;
        let indent = if in_fence { indent } else { indent.min(3) };
        let language = if opens && text == "```" { "text" } else { "" };
        format!(" {:indent$}{text}{language}", "")
    });
    let lines: Vec<String> = lines.collect();
    quote! { #(#[doc = #lines])* }
}
