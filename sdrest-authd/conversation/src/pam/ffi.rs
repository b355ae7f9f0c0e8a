//! The only unsafe code of this program: the calls to libpam, and two calls to the C library that have no
//! safe form. It follows pam_start(3), pam_start_confdir (Linux-PAM ≥ 1.4), pam_conv(3), pam_fail_delay(3)
//! and the structures of <security/_pam_types.h>.
//!
//! A handle here answers whole batches of messages, as libpam hands them over, so that several prompts reach
//! the person at once. It must never let a panic cross into C, and never keep a pointer that libpam lent.
#![expect(
    unsafe_code,
    reason = "libpam and the C library's clearenv and _exit have no safe interface"
)]

use libc::{c_char, c_int, c_uint, c_void};
use sdrest_proto::{conversation::MAX_MESSAGES, secret::Answer};
use std::{
    ffi::{CStr, CString, OsStr},
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr::{self, NonNull},
};

/// PAM_DISALLOW_NULL_AUTHTOK.
const DISALLOW_NULL_AUTHTOK: c_int = 1;
/// PAM_CHANGE_EXPIRED_AUTHTOK: change only what has expired. For root this is also what makes pam_unix ask for the
/// old password, so pam_chauthtok is never called without it.
const CHANGE_EXPIRED_AUTHTOK: c_int = 0x20;
/// What pam_conv must set aside for each answer, its NUL included (PAM_MAX_RESP_SIZE).
const RESPONSE_BYTES: usize = Answer::MAX_BYTES + 1;

/// Return values of libpam that this program tells apart; the rest keep their number.
pub(crate) mod code {
    use libc::c_int;
    pub(crate) const SUCCESS: c_int = 0;
    pub(crate) const OPEN_ERR: c_int = 1;
    pub(crate) const SYMBOL_ERR: c_int = 2;
    pub(crate) const SERVICE_ERR: c_int = 3;
    pub(crate) const SYSTEM_ERR: c_int = 4;
    pub(crate) const BUF_ERR: c_int = 5;
    pub(crate) const AUTHINFO_UNAVAIL: c_int = 9;
    pub(crate) const NEW_AUTHTOK_REQD: c_int = 12;
    pub(crate) const ACCT_EXPIRED: c_int = 13;
    pub(crate) const CONV_ERR: c_int = 19;
    pub(crate) const AUTHTOK_ERR: c_int = 20;
    pub(crate) const AUTHTOK_RECOVERY_ERR: c_int = 21;
    pub(crate) const AUTHTOK_LOCK_BUSY: c_int = 22;
    pub(crate) const TRY_AGAIN: c_int = 24;
    pub(crate) const ABORT: c_int = 26;
}

/// Items that are set and read as strings (pam_set_item(3)).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    User = 2,
    Tty = 3,
    RemoteHost = 4,
}

/// PAM_FAIL_DELAY: a function that libpam calls instead of sleeping after a failure.
const FAIL_DELAY: c_int = 10;

/// One message of a module. The text is libpam's and is only lent.
#[derive(Debug)]
pub(crate) struct RawMessage<'a> {
    pub(crate) style: c_int,
    pub(crate) text: &'a [u8],
}

/// PAM_PROMPT_ECHO_OFF and its siblings.
pub(crate) mod style {
    use libc::c_int;
    pub(crate) const PROMPT_ECHO_OFF: c_int = 1;
    pub(crate) const PROMPT_ECHO_ON: c_int = 2;
    pub(crate) const ERROR_MSG: c_int = 3;
    pub(crate) const TEXT_INFO: c_int = 4;
    pub(crate) const RADIO_TYPE: c_int = 5;
}

/// Answers what a module says: one entry for each message, `None` where nothing was asked. An error ends the
/// module's call with PAM_CONV_ERR.
pub(crate) trait Converse {
    fn converse(&mut self, messages: &[RawMessage<'_>]) -> Option<Vec<Option<Answer>>>;
}

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    unused: c_int,
}

type ConvFn = unsafe extern "C" fn(
    c_int,
    *mut *const PamMessage,
    *mut *mut PamResponse,
    *mut c_void,
) -> c_int;
type FailDelayFn = extern "C" fn(c_int, c_uint, *mut c_void);

#[repr(C)]
struct PamConv {
    conv: ConvFn,
    appdata: *mut c_void,
}

/// libpam's own; only ever behind a pointer.
#[repr(C)]
struct PamHandle {
    opaque: [u8; 0],
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conv: *const PamConv,
        handle: *mut *mut PamHandle,
    ) -> c_int;
    fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conv: *const PamConv,
        confdir: *const c_char,
        handle: *mut *mut PamHandle,
    ) -> c_int;
    fn pam_end(handle: *mut PamHandle, status: c_int) -> c_int;
    fn pam_authenticate(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_chauthtok(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_set_item(handle: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_get_item(handle: *const PamHandle, item: c_int, value: *mut *const c_void) -> c_int;
}

/// One PAM transaction. Ends with `pam_end` when it is dropped.
pub(crate) struct Handle<C: Converse> {
    raw: NonNull<PamHandle>,
    /// Made by `Box::into_raw` and lent to libpam until `pam_end`.
    conversation: *mut C,
    last: c_int,
}

impl<C: Converse> Handle<C> {
    /// `pam_start`, or `pam_start_confdir` where the services are in a folder of their own. libpam's number
    /// where it refuses.
    pub(crate) fn start(
        service: &str,
        user: &str,
        confdir: Option<&Path>,
        conversation: C,
    ) -> Result<Self, c_int> {
        let service = CString::new(service).map_err(|_| code::BUF_ERR)?;
        let user = CString::new(user).map_err(|_| code::BUF_ERR)?;
        let confdir = confdir.map(|dir| c_path(dir.as_os_str())).transpose()?;
        let conversation = Box::into_raw(Box::new(conversation));
        let conv = PamConv { conv: converse::<C>, appdata: conversation.cast() };
        let mut raw = ptr::null_mut();
        // SAFETY: all strings end with NUL and live through the call; libpam copies them and `conv`.
        // `conversation` stays allocated until `Drop` has called pam_end.
        let status = unsafe {
            match &confdir {
                Some(dir) => pam_start_confdir(
                    service.as_ptr(),
                    user.as_ptr(),
                    &conv,
                    dir.as_ptr(),
                    &mut raw,
                ),
                None => pam_start(service.as_ptr(), user.as_ptr(), &conv, &mut raw),
            }
        };
        match NonNull::new(raw) {
            Some(raw) if status == code::SUCCESS => Ok(Self { raw, conversation, last: status }),
            _ => {
                // SAFETY: the pointer came from Box::into_raw above, and libpam kept nothing.
                drop(unsafe { Box::from_raw(conversation) });
                Err(if status == code::SUCCESS { code::SYSTEM_ERR } else { status })
            }
        }
    }

    /// `pam_set_item` for a string.
    pub(crate) fn set(&mut self, item: Item, value: &str) -> Result<(), c_int> {
        let value = CString::new(value).map_err(|_| code::BUF_ERR)?;
        // SAFETY: the handle is live; libpam copies the string.
        let status =
            unsafe { pam_set_item(self.raw.as_ptr(), item as c_int, value.as_ptr().cast()) };
        self.status(status)
    }

    /// Makes libpam's own delay after a failure a function that does nothing: authd decides how long a
    /// failure takes, so that all failures last alike.
    pub(crate) fn no_fail_delay(&mut self) -> Result<(), c_int> {
        extern "C" fn nothing(_status: c_int, _microseconds: c_uint, _appdata: *mut c_void) {}
        let function: FailDelayFn = nothing;
        // SAFETY: the handle is live; the item is a function pointer, and this one is never unloaded.
        let status =
            unsafe { pam_set_item(self.raw.as_ptr(), FAIL_DELAY, function as *const c_void) };
        self.status(status)
    }

    /// PAM_USER as it is now: a module may have changed it.
    pub(crate) fn user(&mut self) -> Result<String, c_int> {
        let mut value: *const c_void = ptr::null();
        // SAFETY: the handle is live, and `value` is a place for one pointer.
        let status = unsafe { pam_get_item(self.raw.as_ptr(), Item::User as c_int, &mut value) };
        self.status(status)?;
        if value.is_null() {
            return Err(code::SYSTEM_ERR);
        }
        // SAFETY: PAM_USER is a string that ends with NUL and lives until the item changes; it is copied here.
        let user = unsafe { CStr::from_ptr(value.cast()) };
        user.to_str().map(str::to_owned).map_err(|_| code::BUF_ERR)
    }

    /// `pam_authenticate` with PAM_DISALLOW_NULL_AUTHTOK.
    pub(crate) fn authenticate(&mut self) -> Result<(), c_int> {
        // SAFETY: the handle is live. The callback borrows what `conversation` points at; nothing else does.
        let status = unsafe { pam_authenticate(self.raw.as_ptr(), DISALLOW_NULL_AUTHTOK) };
        self.status(status)
    }

    /// `pam_acct_mgmt` with PAM_DISALLOW_NULL_AUTHTOK.
    pub(crate) fn account(&mut self) -> Result<(), c_int> {
        // SAFETY: as in `authenticate`.
        let status = unsafe { pam_acct_mgmt(self.raw.as_ptr(), DISALLOW_NULL_AUTHTOK) };
        self.status(status)
    }

    /// `pam_chauthtok` with PAM_CHANGE_EXPIRED_AUTHTOK, and in no other way.
    pub(crate) fn change_expired(&mut self) -> Result<(), c_int> {
        // SAFETY: as in `authenticate`.
        let status = unsafe { pam_chauthtok(self.raw.as_ptr(), CHANGE_EXPIRED_AUTHTOK) };
        self.status(status)
    }

    fn status(&mut self, status: c_int) -> Result<(), c_int> {
        self.last = status;
        if status == code::SUCCESS { Ok(()) } else { Err(status) }
    }
}

impl<C: Converse> Drop for Handle<C> {
    fn drop(&mut self) {
        // SAFETY: the handle is live and is not used again; after pam_end libpam no longer knows
        // `conversation`, which came from Box::into_raw.
        unsafe {
            pam_end(self.raw.as_ptr(), self.last);
            drop(Box::from_raw(self.conversation));
        }
    }
}

/// libpam's way in: `count` messages, and room for as many answers.
unsafe extern "C" fn converse<C: Converse>(
    count: c_int,
    messages: *mut *const PamMessage,
    responses: *mut *mut PamResponse,
    appdata: *mut c_void,
) -> c_int {
    let Some(count) = usize::try_from(count).ok().filter(|n| (1..=MAX_MESSAGES).contains(n)) else {
        return code::CONV_ERR;
    };
    if messages.is_null() || responses.is_null() || appdata.is_null() {
        return code::CONV_ERR;
    }
    // SAFETY: `appdata` is the pointer given at pam_start; libpam makes one call at a time, so nobody else
    // borrows what it points at. Linux-PAM passes an array of `count` pointers to messages.
    let (conversation, messages) = unsafe {
        (&mut *appdata.cast::<C>(), std::slice::from_raw_parts(messages.cast_const(), count))
    };
    let Some(read) =
        messages.iter().map(|message| read_message(*message)).collect::<Option<Vec<_>>>()
    else {
        return code::CONV_ERR;
    };
    // A panic must not unwind into C: it becomes a failed conversation.
    let answers = catch_unwind(AssertUnwindSafe(|| conversation.converse(&read))).unwrap_or(None);
    let Some(answers) = answers.filter(|answers| answers.len() == count) else {
        return code::CONV_ERR;
    };
    let filled = fill(&answers);
    if filled.is_null() {
        return code::BUF_ERR;
    }
    // SAFETY: `responses` is the module's place for one pointer; the module frees what it gets.
    unsafe { *responses = filled };
    code::SUCCESS
}

fn read_message<'a>(message: *const PamMessage) -> Option<RawMessage<'a>> {
    // SAFETY: a non-null pointer of the array points at a message for the length of the call.
    let message = unsafe { message.as_ref() }?;
    let text = if message.text.is_null() {
        &[][..]
    } else {
        // SAFETY: a message's text that is not null ends with NUL, and lives as long as the message.
        unsafe { CStr::from_ptr(message.text) }.to_bytes()
    };
    Some(RawMessage { style: message.style, text })
}

/// An array of responses as pam_conv(3) wants it: from calloc, each text too, freed by the module. Null where
/// memory is out.
fn fill(answers: &[Option<Answer>]) -> *mut PamResponse {
    // SAFETY: calloc gives zeroed memory for `len` responses, or null.
    let array =
        unsafe { libc::calloc(answers.len(), size_of::<PamResponse>()) }.cast::<PamResponse>();
    if array.is_null() {
        return array;
    }
    for (index, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else { continue };
        let bytes = answer.expose("handed to the PAM module that asked for it").as_bytes();
        let length = bytes.len().min(Answer::MAX_BYTES);
        // SAFETY: the buffer is RESPONSE_BYTES of zeros, so a NUL follows the `length` bytes that are copied;
        // `index` is within the array.
        unsafe {
            let text = libc::calloc(RESPONSE_BYTES, 1).cast::<c_char>();
            if !text.is_null() {
                ptr::copy_nonoverlapping(bytes.as_ptr().cast(), text, length);
            }
            (*array.add(index)).text = text;
        }
    }
    array
}

fn c_path(path: &OsStr) -> Result<CString, c_int> {
    CString::new(path.as_bytes()).map_err(|_| code::BUF_ERR)
}

/// Empties the environment and sets LC_ALL=C.UTF-8, so that no module sees what a launcher passed on. Must run
/// before any thread starts.
pub(crate) fn clear_environment() -> bool {
    // SAFETY: called first thing in main, while there is one thread, and no reference into the environment
    // is kept; the strings end with NUL.
    unsafe {
        libc::clearenv() == 0 && libc::setenv(c"LC_ALL".as_ptr(), c"C.UTF-8".as_ptr(), 1) == 0
    }
}

/// Ends the whole process at once, with all its threads (exit_group): no exit handler of a module runs. A
/// signal would not do: the first process of a PID namespace does not hear its own.
pub(crate) fn end_process(status: c_int) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
}
