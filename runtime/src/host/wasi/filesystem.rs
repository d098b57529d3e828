//! `wasi:filesystem` 0.2: there is none. No directory is open when a guest starts, so no guest ever has a descriptor: the type
//! has no values, and of the functions that need one nothing is left to write.

use super::io::{InputStream, IoError, OutputStream};
use super::p2::wasi::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use super::{Wasi, p2};
use crate::abi::{HostCx, Result};
use crate::host::value::{Borrow, Failure, Own};

/// `descriptor`; there is none.
pub enum Descriptor {}

/// `directory-entry-stream`; there is none.
pub enum DirectoryEntryStream {}

impl p2::wasi::filesystem::preopens::Host for Wasi {
    fn get_directories(_: &mut HostCx<'_>) -> Result<Vec<(Own<Descriptor>, String)>> {
        Ok(Vec::new())
    }
}

/// Functions of a descriptor, by name, further parameters and what they would give.
macro_rules! of_no_descriptor {
    ($($name:ident($($parameter:ty),*) -> $gives:ty;)*) => {$(
        fn $name(
            _: &mut HostCx<'_>,
            self_: Borrow<Descriptor>,
            $(_: $parameter),*
        ) -> std::result::Result<$gives, Failure<ErrorCode>> {
            match *self_.0 {}
        }
    )*};
}

impl p2::wasi::filesystem::types::Host for Wasi {
    of_no_descriptor! {
        descriptor_read_via_stream(Filesize) -> Own<InputStream>;
        descriptor_write_via_stream(Filesize) -> Own<OutputStream>;
        descriptor_append_via_stream() -> Own<OutputStream>;
        descriptor_advise(Filesize, Filesize, Advice) -> ();
        descriptor_sync_data() -> ();
        descriptor_get_flags() -> DescriptorFlags;
        descriptor_get_type() -> DescriptorType;
        descriptor_set_size(Filesize) -> ();
        descriptor_set_times(NewTimestamp, NewTimestamp) -> ();
        descriptor_read(Filesize, Filesize) -> (Vec<u8>, bool);
        descriptor_write(Vec<u8>, Filesize) -> Filesize;
        descriptor_read_directory() -> Own<DirectoryEntryStream>;
        descriptor_sync() -> ();
        descriptor_create_directory_at(String) -> ();
        descriptor_stat() -> DescriptorStat;
        descriptor_stat_at(PathFlags, String) -> DescriptorStat;
        descriptor_set_times_at(PathFlags, String, NewTimestamp, NewTimestamp) -> ();
        descriptor_link_at(PathFlags, String, Borrow<Descriptor>, String) -> ();
        descriptor_open_at(PathFlags, String, OpenFlags, DescriptorFlags) -> Own<Descriptor>;
        descriptor_readlink_at(String) -> String;
        descriptor_remove_directory_at(String) -> ();
        descriptor_rename_at(String, Borrow<Descriptor>, String) -> ();
        descriptor_symlink_at(String, String) -> ();
        descriptor_unlink_file_at(String) -> ();
        descriptor_metadata_hash() -> MetadataHashValue;
        descriptor_metadata_hash_at(PathFlags, String) -> MetadataHashValue;
    }

    fn descriptor_is_same_object(_: &mut HostCx<'_>, self_: Borrow<Descriptor>, _: Borrow<Descriptor>) -> Result<bool> {
        match *self_.0 {}
    }

    fn directory_entry_stream_read_directory_entry(
        _: &mut HostCx<'_>,
        self_: Borrow<DirectoryEntryStream>,
    ) -> std::result::Result<Option<DirectoryEntry>, Failure<ErrorCode>> {
        match *self_.0 {}
    }

    fn filesystem_error_code(_: &mut HostCx<'_>, err: Borrow<IoError>) -> Result<Option<ErrorCode>> {
        match *err.0 {}
    }
}
