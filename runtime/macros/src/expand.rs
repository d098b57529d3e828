//! The whole: a tree of modules, one per interface.

use crate::parse::Options;
use crate::wit::{Interface, Place, Wit};
use crate::{functions, names, types};

use std::collections::BTreeMap;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

/// The Rust for what the options select.
pub fn expand(options: &Options) -> syn::Result<TokenStream> {
    let wit = Wit::load(options)?;
    // Namespace, package, interface: sorted, so that the same WIT gives the same code.
    let mut tree: BTreeMap<Ident, BTreeMap<Ident, BTreeMap<Ident, TokenStream>>> = BTreeMap::new();
    for interface in &wit.interfaces {
        if let Place::Here { namespace, package, module } = &interface.place {
            let code = interface_module(&wit, options, interface)?;
            let packages = tree.entry(namespace.clone()).or_default();
            packages.entry(package.clone()).or_default().insert(module.clone(), code);
        }
    }
    let namespaces = tree.into_iter().map(|(namespace, packages)| {
        let packages = packages.into_iter().map(|(package, interfaces)| {
            let interfaces = interfaces.into_values();
            quote! { pub mod #package { #(#interfaces)* } }
        });
        quote! {
            #[allow(
                clippy::all, clippy::pedantic, dead_code, missing_docs, unused_imports, rustdoc::all,
                reason = "names and docs are the WIT's, and no host uses all of it"
            )]
            pub mod #namespace { #(#packages)* }
        }
    });
    // The compiler rebuilds a crate when a file it has included changes; so it includes the WIT.
    let files = wit.files.iter().map(|file| file.display().to_string());
    Ok(quote! {
        #(#namespaces)*
        #(const _: &[u8] = ::core::include_bytes!(#files);)*
    })
}

fn interface_module(wit: &Wit, options: &Options, interface: &Interface) -> syn::Result<TokenStream> {
    let Place::Here { module, .. } = &interface.place else {
        return Ok(TokenStream::new());
    };
    let docs = names::docs(&wit.resolve.interfaces[interface.id].docs);
    let id = &interface.name;
    let types = types::Types { wit, options, interface };
    let definitions = types.definitions()?;
    let functions = functions::host(&types)?;
    Ok(quote! {
        #docs
        pub mod #module {
            /// The interface's id, with its version.
            pub const INTERFACE: &::core::primitive::str = #id;
            #definitions
            #functions
        }
    })
}
