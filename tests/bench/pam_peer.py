"""PAM alone, as any program would call it: what `logins.py` compares a whole sign-in with.

    pam_peer.py SERVICE USER PASSWORD

For each line on standard input it runs start → authenticate → acct_mgmt → end once, in a child of its own as sdrest does,
and prints how many milliseconds PAM took there. It has to run where the service file and the accounts are.
"""
import ctypes
import os
import sys
import time

PAM = ctypes.CDLL("libpam.so.0")
LIBC = ctypes.CDLL(None)
LIBC.calloc.restype = LIBC.strdup.restype = ctypes.c_void_p
DISALLOW_NULL_AUTHTOK = 1


class Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


CONVERSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Message)),
                            ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)


class Conversation(ctypes.Structure):
    _fields_ = [("converse", CONVERSE), ("data", ctypes.c_void_p)]


def sign_in(service, user, password):
    """Milliseconds of one whole transaction; raises where PAM says no."""

    def converse(count, _messages, responses, _data):
        memory = LIBC.calloc(count, ctypes.sizeof(Response))
        answers = ctypes.cast(memory, ctypes.POINTER(Response))
        for index in range(count):
            answers[index].text = LIBC.strdup(password)
        responses[0] = memory
        return 0

    conversation, handle = Conversation(CONVERSE(converse), None), ctypes.c_void_p()
    begun = time.perf_counter()
    codes = [PAM.pam_start(service, user, ctypes.byref(conversation), ctypes.byref(handle)),
             PAM.pam_authenticate(handle, DISALLOW_NULL_AUTHTOK), PAM.pam_acct_mgmt(handle, 0),
             PAM.pam_end(handle, 0)]
    if any(codes):
        raise SystemExit(f"pam_peer: PAM answered {codes}")
    return (time.perf_counter() - begun) * 1000


def main():
    service, user, password = (text.encode() for text in sys.argv[1:4])
    for _ in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, str(sign_in(service, user, password)).encode())
            os._exit(0)
        os.close(writer)
        text = os.read(reader, 64).decode()
        os.close(reader)
        if os.waitpid(child, 0)[1] or not text:
            sys.exit("pam_peer: the child failed")
        print(text, flush=True)


if __name__ == "__main__":
    main()
