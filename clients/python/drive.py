"""Drives a running "meterd dev" with boto3 or with the AWS CLI.

    drive.py DESCRIPTION boto3
    drive.py DESCRIPTION /path/to/aws

DESCRIPTION is the file that "meterd dev --describe" writes. Each check is
printed as one line of JSON: {"name", "ok", "got", "want"}. The exit status is 0
if all checks were made, whether or not they held.

Both clients are built on botocore, and take the same parameters: what differs
is how a call is made and how its error is seen. A client of 2022 lacks
CustomerAWSAccountId, LicenseArn, ClientToken and the endpoint variable. It is
asked what it knows, and the checks it cannot make are not made; a newer client
makes them.

Needs nothing but the standard library, and boto3 where that is what it drives.
"""

import base64
import collections
import datetime
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid

description = json.load(open(sys.argv[1]))

Answer = collections.namedtuple("Answer", "out code message status request_id kind")


class Boto3:
    def __init__(self):
        import boto3

        self.boto3 = boto3
        self.name = "boto3 " + boto3.__version__
        model = self.client(description["sellers"][0], "us-east-1", description["endpoint"]).meta.service_model
        self.modern = "LicenseArn" in model.shape_for("UsageRecord").members
        self.errors = {e.name for e in model.error_shapes}

    def client(self, who, region, endpoint):
        return self.boto3.client(
            "meteringmarketplace",
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=who["access_key_id"],
            aws_secret_access_key=who["secret_access_key"],
            aws_session_token=who.get("session_token"),
        )

    def call(self, who, region, operation, **params):
        import botocore.exceptions

        # A modern client finds the endpoint in the environment.
        client = self.client(who, region, None if self.modern else description["endpoint"])
        method = re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        try:
            out = getattr(client, method)(**params)
        except botocore.exceptions.ClientError as e:
            meta = e.response["ResponseMetadata"]
            error = e.response["Error"]
            return Answer({}, error["Code"], error["Message"], meta["HTTPStatusCode"], meta.get("RequestId"), type(e).__name__)
        meta = out.pop("ResponseMetadata")
        return Answer(out, "", "", meta["HTTPStatusCode"], meta.get("RequestId"), "")


class CLI:
    def __init__(self, path):
        self.path = path
        run = lambda *args: subprocess.run([path, *args], capture_output=True, text=True, check=True).stdout
        self.name = run("--version").split()[0]
        skeleton = run("meteringmarketplace", "batch-meter-usage", "--generate-cli-skeleton", "--region", "us-east-1")
        self.modern = "LicenseArn" in skeleton
        self.errors = set()  # it has no classes of errors

    def call(self, who, region, operation, **params):
        env = dict(os.environ, AWS_ACCESS_KEY_ID=who["access_key_id"], AWS_SECRET_ACCESS_KEY=who["secret_access_key"])
        if who.get("session_token"):
            env["AWS_SESSION_TOKEN"] = who["session_token"]
        kebab = lambda name: re.sub("(?<=[a-z])(?=[A-Z])", "-", name).lower()
        args = [self.path, "meteringmarketplace", kebab(operation), "--region", region, "--output", "json"]
        if not self.modern:
            args += ["--endpoint-url", description["endpoint"]]
        for name, value in params.items():
            if value is True:
                args += ["--" + kebab(name)]
            elif isinstance(value, (list, dict)):
                args += ["--" + kebab(name), json.dumps(value, default=lambda t: t.isoformat())]
            elif isinstance(value, datetime.datetime):
                args += ["--" + kebab(name), value.isoformat()]
            else:
                args += ["--" + kebab(name), str(value)]
        done = subprocess.run(args, env=env, capture_output=True, text=True)
        if done.returncode == 0:
            return Answer(json.loads(done.stdout), "", "", None, None, "")
        match = re.search(r"An error occurred \((\w+)\) when calling the (\w+) operation(?: \([^)]*\))?: (.*)", done.stderr, re.S)
        if not match:
            raise RuntimeError("%s\n%s" % (" ".join(args), done.stderr))
        return Answer({}, match[1], match[3].strip(), None, None, "")


def check(name, got, want=True):
    print(json.dumps({"name": name, "ok": got == want, "got": got, "want": want}, default=str), flush=True)


def refused(name, answer, code, *words, status=400):
    """Checks that a call was refused with this code, a message that has these
    words, and all that the client lets a program see of an error."""
    problems = []
    if answer.code != code:
        problems.append("code is %r" % answer.code)
    if not answer.message:
        problems.append("no message")
    problems += ["message lacks %r" % w for w in words if w not in answer.message]
    if answer.status not in (status, None):
        problems.append("HTTP status is %s" % answer.status)
    if answer.status and not answer.request_id:
        problems.append("no request id")
    if code in client.errors and answer.kind != code:
        problems.append("class is %s" % answer.kind)
    print(json.dumps({"name": name, "ok": not problems, "got": problems or answer._asdict(), "want": code}, default=str), flush=True)


def statuses(answer):
    return answer.code or [r.get("Status") for r in answer.out["Results"]]


def ids(answer):
    return answer.code or [r.get("MeteringRecordId") for r in answer.out["Results"]]


def moment(value):
    """A timestamp as the clients show it: a datetime, an ISO text, a number."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return float(value)


def is_record_id(value):
    try:
        return str(uuid.UUID(value)) == value
    except (TypeError, ValueError):
        return False


def stored(**filters):
    """What the admin API says was stored: the number of records and their sum."""
    request = urllib.request.Request(
        description["admin_endpoint"] + "/v1/usage/sum?" + urllib.parse.urlencode(filters),
        headers={"Authorization": "Bearer " + description["admin_token"], "Accept": "application/json"},
    )
    sums = json.load(urllib.request.urlopen(request))["sums"]
    return [sum(s["records"] for s in sums), sum(s["quantity"] for s in sums)]


def one(what, items):
    """The first item; the sandbox has at least one of each kind."""
    for item in items:
        return item
    raise SystemExit("the sandbox has no " + what)


client = Boto3() if sys.argv[2] == "boto3" else CLI(sys.argv[2])
check("client " + client.name, True)

# The cast.

seller = description["sellers"][0]
products = {p["product_code"]: p for p in description["products"] if p["seller_account_id"] == seller["account_id"]}
legacy = one("legacy SaaS product", (p for p in products.values() if p["type"] == "saas" and p["integration"] == "legacy"))["product_code"]
concurrent = one("concurrent SaaS product", (p for p in products.values() if p["type"] == "saas" and p["integration"] == "concurrent"))["product_code"]
expired = lambda p: [k for k in p.get("public_keys") or [] if k["expired"]]
hourly = one("hourly container product", (p for p in products.values() if p["type"] == "container" and expired(p)))
custom = one("container product with custom metering", (p for p in products.values() if p["type"] == "container" and p.get("dimensions") and not expired(p)))
unit = custom["dimensions"][0]
foreign = one("product of another seller", (p for p in description["products"] if p["seller_account_id"] != seller["account_id"]))["product_code"]

subscriptions = lambda buyer: {s["product_code"]: s for s in buyer.get("subscriptions") or []}
active = lambda buyer, code: subscriptions(buyer).get(code, {}).get("status") == "active"
buyer = one("buyer of everything", (b for b in description["buyers"] if all(active(b, code) for code in products)))
stranger = one("buyer without subscriptions", (b for b in description["buyers"] if not b.get("subscriptions")))
former = one("buyer whose agreement for the legacy product ended", (b for b in description["buyers"] if legacy in subscriptions(b) and not active(b, legacy)))
known = subscriptions(buyer)[legacy]
licensed = subscriptions(buyer)[concurrent]
workloads = {}
for w in buyer["workloads"]:
    workloads.setdefault(w["platform"], []).append(w)
region = description["region"]

# Hours. Nothing that should be accepted is older than five hours, so that no
# window ends while the checks run, not even at the change of a month.

now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
this_hour = now.replace(minute=0, second=0)
hour = lambda ago, minute=0: this_hour - datetime.timedelta(hours=ago) + datetime.timedelta(minutes=minute)


def batch(*records, product=legacy, who=seller, in_region=region):
    params = {"UsageRecords": list(records)}
    if product:
        params["ProductCode"] = product
    return client.call(who, in_region, "BatchMeterUsage", **params)


def record(at, quantity, dimension="users", **buyer_or_more):
    by = buyer_or_more or {"CustomerIdentifier": known["customer_identifier"]}
    return dict({"Timestamp": at, "Dimension": dimension, "Quantity": quantity}, **by)


# BatchMeterUsage, as in 2022.

sent = record(hour(1, 23) + datetime.timedelta(seconds=45), 3)
first = batch(sent)
check("batch: success", statuses(first), ["Success"])
check("batch: metering record id", is_record_id(ids(first)[0]))
check("batch: nothing unprocessed", first.out.get("UnprocessedRecords"), [])
echo = dict(first.out["Results"][0]["UsageRecord"]) if first.out else {}
check("batch: timestamp echoed", moment(echo.pop("Timestamp", 0)), moment(sent["Timestamp"]))
check("batch: record echoed as sent", echo, {k: v for k, v in sent.items() if k != "Timestamp"})
if first.status:
    check("batch: request id", bool(first.request_id))
again = batch(record(hour(1, 55), 3))
check("batch: replay in the same hour", (statuses(again), ids(again)), (["Success"], ids(first)))
check("batch: other quantity", statuses(batch(record(hour(1), 5))), ["DuplicateRecord"])
mixed = batch(record(hour(2), 1), record(hour(2), 7, "gb"), record(hour(2), 1, CustomerIdentifier=subscriptions(former)[legacy]["customer_identifier"]))
check("batch: former buyer among good records", statuses(mixed), ["Success", "Success", "CustomerNotSubscribed"])
split = record(hour(3), 3)
split["UsageAllocations"] = [
    {"AllocatedUsageQuantity": 2, "Tags": [{"Key": "team", "Value": "a"}]},
    {"AllocatedUsageQuantity": 1},
]
check("batch: allocations", statuses(batch(split)), ["Success"])
check("batch: no records", batch().out, {"Results": [], "UnprocessedRecords": []})

refused("batch: unknown dimension", batch(record(hour(4), 1), record(hour(4), 1, "Users")), "InvalidUsageDimensionException", "Users")
check("batch: a refused call stores nothing", statuses(batch(record(hour(4), 2))), ["Success"])
refused("batch: 30 hours old", batch(record(hour(30), 1)), "TimestampOutOfBoundsException")
refused("batch: 3 hours ahead", batch(record(hour(-3), 1)), "TimestampOutOfBoundsException")
refused("batch: unknown product", batch(record(hour(4), 2), product="nosuchproductcode0000000"), "InvalidProductCodeException")
refused("batch: another seller's product", batch(record(hour(4), 2), product=foreign), "InvalidProductCodeException")
refused("batch: unknown customer", batch(record(hour(4), 2, CustomerIdentifier="nobodyatall")), "InvalidCustomerIdentifierException")
refused("batch: 26 records", batch(*[record(hour(4), 2)] * 26), "ValidationException")
split["UsageAllocations"][0]["AllocatedUsageQuantity"] = 9
refused("batch: allocations do not sum up", batch(split), "InvalidUsageAllocationsException")
split["UsageAllocations"] = [{"AllocatedUsageQuantity": 3, "Tags": [{"Key": "k%d" % i, "Value": "v"} for i in range(6)]}]
refused("batch: six tags", batch(split), "InvalidTagException")

# Who may call.

refused("no permission", batch(sent, who=seller["powerless"]), "AccessDeniedException", "aws-marketplace:BatchMeterUsage")
refused("unknown access key", batch(sent, who=dict(seller, access_key_id="AKIANOSUCHKEY0000000")), "UnrecognizedClientException")
refused("wrong secret", batch(sent, who=dict(seller, secret_access_key="x" * 40)), "InvalidSignatureException")

# BatchMeterUsage, as in 2026.

if client.modern:
    by_account = lambda who, at, quantity: record(at, quantity, CustomerAWSAccountId=who["account_id"])
    check("account: same subject as the identifier", ids(batch(by_account(buyer, hour(1), 3))), ids(first))
    check("account: buyer without subscription", statuses(batch(by_account(stranger, hour(4), 1))), ["CustomerNotSubscribed"])
    check("account: unknown", statuses(batch(record(hour(4), 1, CustomerAWSAccountId="999999999999"))), ["CustomerNotSubscribed"])
    refused(
        "account: both identifiers",
        batch(record(hour(4), 1, CustomerAWSAccountId=buyer["account_id"], CustomerIdentifier=known["customer_identifier"])),
        "InvalidCustomerIdentifierException",
    )
    by_license = lambda quantity, arn=licensed["license_arn"], who=buyer: record(
        hour(1), quantity, "requests", CustomerAWSAccountId=who["account_id"], LicenseArn=arn
    )
    granted = batch(by_license(8), product=None)
    check("licence: success", statuses(granted), ["Success"])
    check("licence: echoed", granted.out and granted.out["Results"][0]["UsageRecord"].get("LicenseArn"), licensed["license_arn"])
    check("licence: replay", ids(batch(by_license(8), product=None)), ids(granted))
    check("licence: other quantity", statuses(batch(by_license(9), product=None)), ["DuplicateRecord"])
    refused("licence: with product code", batch(by_license(8), product=concurrent), "InvalidProductCodeException")
    unknown = re.sub("[^:]*$", "l-00000000000000000000000000000000", licensed["license_arn"])
    refused("licence: unknown", batch(by_license(8, unknown), product=None), "InvalidLicenseException")
    refused("licence: malformed", batch(by_license(8, "l-1234"), product=None), "InvalidLicenseException")
    refused("licence: another buyer's", batch(by_license(8, who=stranger), product=None), "InvalidLicenseException")
    refused(
        "licence: product code for a concurrent product",
        batch(dict(by_account(buyer, hour(1), 1), Dimension="requests"), product=concurrent),
        "InvalidProductCodeException",
    )
    refused("batch: neither product code nor licence", batch(sent, product=None), "InvalidProductCodeException")

# All of the above stored these four: 3 in the first hour back, then 1, 3 and 2.
check("batch: stored once", stored(product_code=legacy, dimension="users"), [4, 9])

# ResolveCustomer.

resolve = lambda token, who=seller: client.call(who, region, "ResolveCustomer", RegistrationToken=token)
want = {
    "ProductCode": legacy,
    "CustomerIdentifier": known["customer_identifier"],
    "CustomerAWSAccountId": buyer["account_id"],
}
came = {"ProductCode": concurrent, "CustomerAWSAccountId": buyer["account_id"]}
if client.modern:
    want["LicenseArn"] = known["license_arn"]
    came["LicenseArn"] = licensed["license_arn"]
check("resolve: legacy", resolve(known["registration_token"]).out, want)
check("resolve: again", resolve(known["registration_token"]).out, want)
check("resolve: concurrent, without CustomerIdentifier", resolve(licensed["registration_token"]).out, came)
refused("resolve: expired", resolve(known["expired_registration_token"]), "ExpiredTokenException")
refused("resolve: garbage", resolve("asdfa"), "InvalidTokenException", "Registration token is invalid")
if len(description["sellers"]) > 1:
    refused("resolve: another seller", resolve(known["registration_token"], description["sellers"][1]), "InvalidTokenException")

# MeterUsage, from workloads of the buyer.

task, other_task = workloads["ecs"][:2]


def meter(quantity, at, who=task, in_region=None, **more):
    return client.call(
        who,
        in_region or who["region"],
        "MeterUsage",
        ProductCode=more.pop("ProductCode", custom["product_code"]),
        Timestamp=at,
        UsageDimension=more.pop("UsageDimension", unit),
        UsageQuantity=quantity,
        **more
    )


metered = meter(4, hour(1, 10))
record_id = lambda answer: answer.code or answer.out["MeteringRecordId"]
check("meter: success", is_record_id(record_id(metered)))
# A modern client sends another ClientToken with each of these.
check("meter: replay in the same hour", record_id(meter(4, hour(1, 50))), record_id(metered))
refused("meter: other quantity", meter(6, hour(1, 10)), "DuplicateRequestException", "usageDimension: " + unit)
elsewhere = record_id(meter(4, hour(1, 10), who=other_task))
check("meter: another task is counted by itself", is_record_id(elsewhere) and elsewhere != record_id(metered))
check("meter: dry run", record_id(meter(5, hour(2), DryRun=True)), "DryRunOperation")
refused("meter: dry run of another quantity", meter(6, hour(1, 10), DryRun=True), "DuplicateRequestException")
check("meter: a dry run stores nothing", is_record_id(record_id(meter(9, hour(2)))))
refused("meter: 7 hours old", meter(1, hour(7)), "TimestampOutOfBoundsException")
refused("meter: unknown dimension", meter(1, hour(3), UsageDimension="nosuchdimension"), "InvalidUsageDimensionException")
refused("meter: unknown product", meter(1, hour(3), ProductCode="nosuchproductcode0000000"), "InvalidProductCodeException")
away = one("second region", (r for r in description["regions"] if r != task["region"]))
refused("meter: another region", meter(1, hour(3), in_region=away), "InvalidEndpointRegionException")
refused("meter: session token left out", meter(1, hour(3), who=dict(task, session_token=None)), "UnrecognizedClientException")

agent = workloads["agentcore"][0]
if client.modern:
    token = str(uuid.uuid4())
    check("token: success", is_record_id(record_id(meter(2, hour(3), ClientToken=token))))
    refused("token: other parameters", meter(3, hour(3), ClientToken=token), "IdempotencyConflictException", status=409)
    runs = [record_id(meter(2, hour(1, 5), who=agent, ClientToken=t)) for t in ("run-1", "run-2", "run-1")]
    check("agentcore: each token counts once", (all(map(is_record_id, runs)), runs[0] != runs[1], runs[0] == runs[2]), (True, True, True))
    refused(
        "agentcore: token conflict",
        meter(3, hour(1, 5), who=agent, ClientToken="run-1"),
        "IdempotencyConflictException",
        status=409,
    )
    check("agentcore: stored once", stored(workload=agent["resource_id"]), [2, 4])
else:
    refused("agentcore: without a token", meter(2, hour(1, 5), who=agent), "ValidationException", "ClientToken")

# RegisterUsage, from workloads of the buyer.


def register(version, who=task, in_region=None, nonce="n-%s" % uuid.uuid4(), product=hourly["product_code"]):
    return client.call(
        who, in_region or who["region"], "RegisterUsage", ProductCode=product, PublicKeyVersion=version, Nonce=nonce
    )


def part(signature, n):
    text = signature.split(".")[n]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


current = max(k["version"] for k in hourly["public_keys"] if not k["expired"])
for platform in ("ecs", "eks"):
    answer = register(current, workloads[platform][0], nonce="nonce-" + platform)
    signature = answer.out.get("Signature", "")
    check("register: %s, three parts" % platform, len(signature.split(".")), 3)
    if signature.count(".") == 2:
        header, claims = part(signature, 0), part(signature, 1)
        check("register: %s, header" % platform, header, {"alg": "PS256", "typ": "JWT"})
        check(
            "register: %s, claims" % platform,
            [claims.get("productCode"), claims.get("publicKeyVersion"), claims.get("nonce"), "iat" in claims, "exp" in claims],
            [hourly["product_code"], current, "nonce-" + platform, True, False],
        )
    check("register: %s, no rotation" % platform, answer.out.get("PublicKeyRotationTimestamp"), None)
rotated = register(expired(hourly)[0]["version"]).out.get("PublicKeyRotationTimestamp", 0)
check("register: expired key version tells of its rotation", 0 < moment(rotated) < now.timestamp())
refused("register: unknown key version", register(99), "InvalidPublicKeyVersionException")
refused("register: not from EC2", register(current, workloads["ec2"][0]), "PlatformNotSupportedException")
refused("register: unknown product", register(current, product="nosuchproductcode0000000"), "InvalidProductCodeException")
refused("register: another region", register(current, in_region=away), "InvalidRegionException")
