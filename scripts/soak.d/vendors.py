"""The five vendors: bodies like theirs, each with a mark that tells it again, and how each proves itself."""

import hashlib
import hmac
import json
import re

PUBLIC_URL = "https://hooks.example.com"

# What every event carries, and what is looked for in all that reaches the app.
MARK = re.compile(rb"soak-([0-9]{9})")

NAMES = ("sendauth", "loginradius", "zenlogin", "authpi", "authalert")

HEADERS = {
    "sendauth": "x-sendauth-signature",
    "loginradius": "signature",
    "zenlogin": "x-signature",
    "authpi": "x-webhook-signature",
    "authalert": "x-authalert-secret",
}


def mark(number):
    return f"soak-{number:09}"


def signature(vendor, secret, path, body):
    """The value of the header a vendor proves itself with."""
    key = secret.encode()
    match vendor:
        case "sendauth":
            return hashlib.sha256(key + body).hexdigest()
        case "loginradius":
            return hmac.new(key, body, hashlib.sha256).hexdigest().upper()
        case "zenlogin":
            return hmac.new(key, f"{PUBLIC_URL}{path}".encode(), hashlib.sha256).hexdigest()
        case "authpi":
            return hmac.new(key, body, hashlib.sha256).hexdigest()
        case "authalert":
            return secret
    raise ValueError(vendor)


def body(vendor, number, user, padding):
    """An event of a vendor's; `user` is whose it is, `padding` how many bytes it has beside."""
    id = mark(number)
    match vendor:
        case "sendauth":
            event = {
                "id": id,
                "state": "verified",
                "authGroup": {"id": "group-1", "name": "Group"},
                "requestor": f"{user}@example.com",
                "completedAt": "2024-01-15T10:35:00Z",
            }
        case "loginradius":
            event = {
                "HookName": "login",
                "Time": "2025-03-04T08:15:30Z",
                "HookId": "5f0c1c0e-7d55-4a0b-9a52-0d4d1f6f2b11",
                "Data": {"ID": id, "Uid": user, "FullName": "Ada Example", "Password": "sample-hash"},
            }
        case "zenlogin":
            event = {
                "success": True,
                "data": {
                    "type": "applicationLoginCheck.ruleApplied",
                    "account": {"publicId": "accn1abtwskjj3q1"},
                    "applicationIdentity": {"publicId": "apid1tv26zhtx2zy", "identityKey": user},
                    "applicationLoginCheck": {"publicId": id, "reqTest": False},
                },
            }
        case "authpi":
            event = {
                "id": f"delivery-{number}",
                "specversion": "1.0",
                "source": "com.authpi.webhooks/v1/soak",
                "type": "event",
                "datacontenttype": "application/json",
                "time": "2024-01-01T03:21:36Z",
                "data": {
                    "id": id,
                    "type": "user.created",
                    "trace": "abc123",
                    "source": "com.authpi/v1",
                    "subject": {"user_id": user},
                    "data": {"email": "ada@example.com"},
                },
            }
        case "authalert":
            event = {
                "user_id": id,
                "email": "",
                "device_id": "6uex31zf1tx",
                "subscription_id": "q9enh4fcvjmPDDVR1mNT",
                "new_device": {"device_id": "6uex31zf1tx", "os": "Mac OS X", "detection_time": 1615819845},
            }
        case _:
            raise ValueError(vendor)
    if padding:
        event["padding"] = "x" * padding
    return json.dumps(event).encode()
