// Drives a running "meterd dev" with the AWS SDK for JavaScript v3.
//
//	node drive.mjs DESCRIPTION
//
// DESCRIPTION is the file that "meterd dev --describe" writes. Each check is
// printed as one line of JSON: {name, ok, got, want}. The exit status is 0 if
// all checks were made, whether or not they held. The client finds the endpoint
// in AWS_ENDPOINT_URL_MARKETPLACE_METERING.

import * as sdk from "@aws-sdk/client-marketplace-metering";
import { constants, randomUUID, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

const description = JSON.parse(readFileSync(process.argv[2], "utf8"));

function check(name, got, want = true) {
  console.log(JSON.stringify({ name, ok: isDeepStrictEqual(got, want), got: got ?? null, want }));
}

/** The client of one caller. maxAttempts stays as users have it. */
function client(who, region) {
  return new sdk.MarketplaceMeteringClient({
    region,
    credentials: {
      accessKeyId: who.access_key_id,
      secretAccessKey: who.secret_access_key,
      sessionToken: who.session_token,
    },
  });
}

/** The output of a call, or {error}. */
async function call(who, region, command) {
  try {
    return await client(who, region).send(command);
  } catch (error) {
    if (!(error instanceof sdk.MarketplaceMeteringServiceException)) throw error;
    return { error };
  }
}

/** Checks all that the SDK lets a program see of a refusal. */
function refused(name, { error }, code, { status = 400, words = [] } = {}) {
  const problems = [];
  if (error) {
    if (error.name !== code) problems.push(`name is ${error.name}`);
    if (sdk[code] && !(error instanceof sdk[code])) problems.push(`class is ${error.constructor.name}`);
    if (!error.message || error.message === "UnknownError") problems.push("no message");
    for (const word of words) if (!error.message.includes(word)) problems.push(`message lacks ${word}`);
    if (error.$metadata.httpStatusCode !== status) problems.push(`HTTP status is ${error.$metadata.httpStatusCode}`);
    if (!error.$metadata.requestId) problems.push("no request id");
    problems.push(...(problems.length ? [error.message] : []));
  } else {
    problems.push("not refused");
  }
  console.log(JSON.stringify({ name, ok: problems.length === 0, got: problems.length ? problems : code, want: code }));
}

const statuses = (answer) => answer.error?.name ?? answer.Results.map((r) => r.Status);
const ids = (answer) => answer.error?.name ?? answer.Results.map((r) => r.MeteringRecordId);
const recordId = (answer) => answer.error?.name ?? answer.MeteringRecordId;
const isRecordId = (id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id);

/** What the admin API says was stored: the number of records and their sum. */
async function stored(filters) {
  const answer = await fetch(`${description.admin_endpoint}/v1/usage/sum?${new URLSearchParams(filters)}`, {
    headers: { authorization: `Bearer ${description.admin_token}`, accept: "application/json" },
  });
  if (!answer.ok) throw new Error(`GET ${answer.url}: ${answer.status} ${await answer.text()}`);
  const { sums } = await answer.json();
  return ["records", "quantity"].map((member) => sums.reduce((total, sum) => total + sum[member], 0));
}

function one(what, items, wanted) {
  const found = items.find(wanted);
  if (!found) throw new Error(`the sandbox has no ${what}`);
  return found;
}

// The cast.

const { region } = description;
const [seller, otherSeller] = description.sellers;
const products = description.products.filter((p) => p.seller_account_id === seller.account_id);
const expired = (p) => (p.public_keys ?? []).find((k) => k.expired);
const saas = (integration) =>
  one(`${integration} SaaS product`, products, (p) => p.type === "saas" && p.integration === integration).product_code;
const legacy = saas("legacy");
const concurrent = saas("concurrent");
const hourly = one("hourly container product", products, (p) => p.type === "container" && expired(p));
const custom = one(
  "container product with custom metering",
  products,
  (p) => p.type === "container" && p.dimensions?.length && !expired(p),
);
const [unit] = custom.dimensions;
const foreign = one("product of another seller", description.products, (p) => p.seller_account_id !== seller.account_id);

const subscription = (buyer, code) => buyer.subscriptions?.find((s) => s.product_code === code);
const buyer = one("buyer of everything", description.buyers, (b) =>
  products.every((p) => subscription(b, p.product_code)?.status === "active"),
);
const stranger = one("buyer without subscriptions", description.buyers, (b) => !b.subscriptions?.length);
const former = one("buyer whose agreement for the legacy product ended", description.buyers, (b) => {
  const s = subscription(b, legacy);
  return s && s.status !== "active";
});
const known = subscription(buyer, legacy);
const licensed = subscription(buyer, concurrent);
const workload = (platform, n = 0) => buyer.workloads.filter((w) => w.platform === platform)[n];

// Hours. Nothing that should be accepted is older than five hours, so that no
// window ends while the checks run, not even at the change of a month.

const HOUR = 3600_000;
const thisHour = Math.floor(Date.now() / HOUR) * HOUR;
const hour = (ago, milliseconds = 0) => new Date(thisHour - ago * HOUR + milliseconds);

const batch = (UsageRecords, { ProductCode = legacy, who = seller } = {}) =>
  call(who, region, new sdk.BatchMeterUsageCommand({ UsageRecords, ProductCode: ProductCode ?? undefined }));
const record = (Timestamp, Quantity, more = { CustomerIdentifier: known.customer_identifier }) => ({
  Timestamp,
  Dimension: "users",
  Quantity,
  ...more,
});

// BatchMeterUsage, the legacy way.

const sent = record(hour(1, 23 * 60_000 + 45_123), 3);
const first = await batch([sent]);
check("batch: success", statuses(first), ["Success"]);
check("batch: metering record id", isRecordId(ids(first)[0]));
check("batch: nothing unprocessed", first.UnprocessedRecords, []);
check("batch: echoed as sent, to the millisecond", first.Results?.[0].UsageRecord, sent);
check("batch: request id", Boolean(first.$metadata?.requestId));
const again = await batch([record(hour(1, 55 * 60_000), 3)]);
check("batch: replay in the same hour", [statuses(again), ids(again)], [["Success"], ids(first)]);
check("batch: other quantity", statuses(await batch([record(hour(1), 5)])), ["DuplicateRecord"]);
const byAccount = (who, at, quantity) => record(at, quantity, { CustomerAWSAccountId: who.account_id });
check("account: same subject as the identifier", ids(await batch([byAccount(buyer, hour(1), 3)])), ids(first));
check(
  "account: strangers among good records",
  statuses(await batch([byAccount(buyer, hour(2), 1), byAccount(stranger, hour(2), 1), byAccount(former, hour(2), 1)])),
  ["Success", "CustomerNotSubscribed", "CustomerNotSubscribed"],
);
check(
  "identifier: former buyer",
  statuses(await batch([record(hour(2), 1, { CustomerIdentifier: subscription(former, legacy).customer_identifier })])),
  ["CustomerNotSubscribed"],
);
const UsageAllocations = [
  { AllocatedUsageQuantity: 2, Tags: [{ Key: "team", Value: "a" }] },
  { AllocatedUsageQuantity: 1 },
];
const split = await batch([{ ...record(hour(3), 3), UsageAllocations }]);
check("batch: allocations", statuses(split), ["Success"]);
check("batch: allocations echoed", split.Results?.[0].UsageRecord.UsageAllocations, UsageAllocations);
const { Results, UnprocessedRecords } = await batch([]);
check("batch: no records", [Results, UnprocessedRecords], [[], []]);

refused(
  "batch: unknown dimension",
  await batch([record(hour(4), 1), { ...record(hour(4), 1), Dimension: "Users" }]),
  "InvalidUsageDimensionException",
  { words: ["Users"] },
);
check("batch: a refused call stores nothing", statuses(await batch([record(hour(4), 2)])), ["Success"]);
refused("batch: 30 hours old", await batch([record(hour(30), 1)]), "TimestampOutOfBoundsException");
refused("batch: 3 hours ahead", await batch([record(hour(-3), 1)]), "TimestampOutOfBoundsException");
for (const [name, ProductCode] of [
  ["unknown product", "nosuchproductcode0000000"],
  ["another seller's product", foreign.product_code],
  ["product id for product code", products.find((p) => p.product_code === legacy).product_id],
  ["neither product code nor licence", null],
]) {
  refused(`batch: ${name}`, await batch([sent], { ProductCode }), "InvalidProductCodeException");
}
const customer = (more) => batch([record(hour(4), 2, more)]);
refused("batch: unknown customer", await customer({ CustomerIdentifier: "nobodyatall" }), "InvalidCustomerIdentifierException");
refused("batch: no customer", await customer({}), "InvalidCustomerIdentifierException");
refused(
  "batch: both identifiers",
  await customer({ CustomerIdentifier: known.customer_identifier, CustomerAWSAccountId: buyer.account_id }),
  "InvalidCustomerIdentifierException",
);
refused("batch: 26 records", await batch(Array(26).fill(record(hour(4), 2))), "ValidationException");
refused("batch: negative quantity", await batch([record(hour(4), -1)]), "ValidationException");
refused("batch: fraction", await batch([record(hour(4), 1.5)]), "SerializationException");
const allocated = (...UsageAllocations) => batch([{ ...record(hour(4), 3), UsageAllocations }]);
refused(
  "batch: allocations do not sum up",
  await allocated({ AllocatedUsageQuantity: 2 }),
  "InvalidUsageAllocationsException",
);
refused(
  "batch: same set of tags twice",
  await allocated(
    { AllocatedUsageQuantity: 2, Tags: [{ Key: "a", Value: "1" }, { Key: "b", Value: "2" }] },
    { AllocatedUsageQuantity: 1, Tags: [{ Key: "b", Value: "2" }, { Key: "a", Value: "1" }] },
  ),
  "InvalidUsageAllocationsException",
);
refused(
  "batch: six tags",
  await allocated({ AllocatedUsageQuantity: 3, Tags: [..."abcdef"].map((Key) => ({ Key, Value: "v" })) }),
  "InvalidTagException",
);

// BatchMeterUsage, with licences.

const byLicense = (Quantity, LicenseArn = licensed.license_arn, who = buyer) => ({
  Timestamp: hour(1, 1),
  Dimension: "requests",
  Quantity,
  CustomerAWSAccountId: who.account_id,
  LicenseArn,
});
const granted = await batch([byLicense(8)], { ProductCode: null });
check("licence: success", statuses(granted), ["Success"]);
check("licence: echoed as sent", granted.Results?.[0].UsageRecord, byLicense(8));
check("licence: replay", ids(await batch([byLicense(8)], { ProductCode: null })), ids(granted));
check("licence: other quantity", statuses(await batch([byLicense(9)], { ProductCode: null })), ["DuplicateRecord"]);
refused("licence: with product code", await batch([byLicense(8)], { ProductCode: concurrent }), "InvalidProductCodeException");
refused(
  "licence: product code for a concurrent product",
  await batch([{ ...byAccount(buyer, hour(1), 1), Dimension: "requests" }], { ProductCode: concurrent }),
  "InvalidProductCodeException",
);
for (const [name, item] of [
  ["unknown", byLicense(8, licensed.license_arn.replace(/[^:]*$/, "l-00000000000000000000000000000000"))],
  ["malformed", byLicense(8, "l-1234")],
  ["another buyer's", byLicense(8, licensed.license_arn, stranger)],
]) {
  refused(`licence: ${name}`, await batch([item], { ProductCode: null }), "InvalidLicenseException");
}
refused(
  "licence: two products in one call",
  await batch([byLicense(8), { ...byLicense(1, known.license_arn), Dimension: "users" }], { ProductCode: null }),
  "InvalidLicenseException",
);

// Who may call.

refused("no permission", await batch([sent], { who: seller.powerless }), "AccessDeniedException", {
  words: ["aws-marketplace:BatchMeterUsage"],
});
refused(
  "unknown access key",
  await batch([sent], { who: { ...seller, access_key_id: "AKIANOSUCHKEY0000000" } }),
  "UnrecognizedClientException",
);
refused("wrong secret", await batch([sent], { who: { ...seller, secret_access_key: "x".repeat(40) } }), "InvalidSignatureException");

// All of the above stored these four: 3 in the first hour back, then 1, 3 and 2.
check("batch: stored once", await stored({ product_code: legacy, dimension: "users" }), [4, 9]);

// ResolveCustomer.

const resolve = async (RegistrationToken, who = seller) => {
  const { $metadata, ...output } = await call(who, region, new sdk.ResolveCustomerCommand({ RegistrationToken }));
  return output;
};
const customerOf = (s) => ({ ProductCode: s.product_code, CustomerAWSAccountId: buyer.account_id, LicenseArn: s.license_arn });
const resolved = { ...customerOf(known), CustomerIdentifier: known.customer_identifier };
check("resolve: legacy", await resolve(known.registration_token), resolved);
check("resolve: again", await resolve(known.registration_token), resolved);
check("resolve: concurrent, without CustomerIdentifier", await resolve(licensed.registration_token), customerOf(licensed));
refused("resolve: expired", await resolve(known.expired_registration_token), "ExpiredTokenException");
refused("resolve: garbage", await resolve("asdfa"), "InvalidTokenException", { words: ["Registration token is invalid"] });
refused("resolve: another seller", await resolve(known.registration_token, otherSeller), "InvalidTokenException");
refused("resolve: empty", await resolve(""), "ValidationException");

// MeterUsage, from workloads of the buyer. Where ClientToken is not given the
// SDK sends another one with each call.

const task = workload("ecs");
const agent = workload("agentcore");
const away = one("second region", description.regions, (r) => r !== task.region);
const meter = (UsageQuantity, Timestamp, { who = task, from = who.region, ...more } = {}) =>
  call(
    who,
    from,
    new sdk.MeterUsageCommand({ ProductCode: custom.product_code, UsageDimension: unit, Timestamp, UsageQuantity, ...more }),
  );

const metered = await meter(4, hour(1, 10 * 60_000));
check("meter: success", isRecordId(recordId(metered)));
check("meter: replay in the same hour", recordId(await meter(4, hour(1, 50 * 60_000))), recordId(metered));
refused("meter: other quantity", await meter(6, hour(1)), "DuplicateRequestException", { words: [`usageDimension: ${unit}`] });
const elsewhere = recordId(await meter(4, hour(1), { who: workload("ecs", 1) }));
check("meter: another task is counted by itself", isRecordId(elsewhere) && elsewhere !== recordId(metered));
check("meter: dry run", recordId(await meter(5, hour(2), { DryRun: true })), "DryRunOperation");
refused("meter: dry run of another quantity", await meter(6, hour(1), { DryRun: true }), "DuplicateRequestException");
check("meter: a dry run stores nothing", isRecordId(recordId(await meter(9, hour(2)))));
const ClientToken = randomUUID();
check("token: success", isRecordId(recordId(await meter(2, hour(3), { ClientToken }))));
refused("token: other parameters", await meter(3, hour(3), { ClientToken }), "IdempotencyConflictException", { status: 409 });
refused("meter: 7 hours old", await meter(1, hour(7)), "TimestampOutOfBoundsException");
refused("meter: unknown dimension", await meter(1, hour(4), { UsageDimension: "nosuchdimension" }), "InvalidUsageDimensionException");
refused("meter: unknown product", await meter(1, hour(4), { ProductCode: "nosuchproductcode0000000" }), "InvalidProductCodeException");
refused("meter: another region", await meter(1, hour(4), { from: away }), "InvalidEndpointRegionException");
refused(
  "meter: session token left out",
  await meter(1, hour(4), { who: { ...task, session_token: undefined } }),
  "UnrecognizedClientException",
);
refused(
  "meter: session token of another workload",
  await meter(1, hour(4), { who: { ...task, session_token: agent.session_token } }),
  "UnrecognizedClientException",
);

const runs = [];
for (const ClientToken of ["run-1", "run-2", "run-1"]) {
  runs.push(recordId(await meter(2, hour(1), { who: agent, ClientToken })));
}
check("agentcore: each token counts once", [runs.every(isRecordId), runs[0] !== runs[1], runs[0] === runs[2]], [true, true, true]);
refused("agentcore: token conflict", await meter(3, hour(1), { who: agent, ClientToken: "run-1" }), "IdempotencyConflictException", {
  status: 409,
});
check("agentcore: stored once", await stored({ workload: agent.resource_id }), [2, 4]);

// RegisterUsage, from workloads of the buyer.

const register = (PublicKeyVersion, { who = task, from = who.region, Nonce = randomUUID(), ProductCode = hourly.product_code } = {}) =>
  call(who, from, new sdk.RegisterUsageCommand({ ProductCode, PublicKeyVersion, Nonce }));

/** The claims of a token, or what is wrong with it. */
function claims(token, pem) {
  const parts = token?.split(".") ?? [];
  if (parts.length !== 3) return `${parts.length} parts`;
  const [header, payload] = parts.slice(0, 2).map((p) => JSON.parse(Buffer.from(p, "base64url")));
  if (!isDeepStrictEqual(header, { alg: "PS256", typ: "JWT" })) return header;
  const key = { key: pem, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`);
  if (!verify("sha256", signed, key, Buffer.from(parts[2], "base64url"))) return "bad signature";
  const { productCode, publicKeyVersion, nonce, iat, exp } = payload;
  return { productCode, publicKeyVersion, nonce, iat: Number.isInteger(iat), exp };
}

const current = hourly.public_keys.findLast((k) => !k.expired);
for (const [name, key, who, Nonce] of [
  ["ecs", current, task, "n".repeat(255)],
  ["eks", current, workload("eks"), "nonce"],
  ["expired key version", expired(hourly), task, "nonce"],
]) {
  const answer = await register(key.version, { who, Nonce });
  check(`register: ${name}, signature`, claims(answer.Signature, key.pem), {
    productCode: hourly.product_code,
    publicKeyVersion: key.version,
    nonce: Nonce,
    iat: true,
    exp: undefined,
  });
  const rotated = answer.PublicKeyRotationTimestamp;
  check(`register: ${name}, rotation`, rotated instanceof Date && rotated < new Date(), key.expired);
}
refused("register: unknown key version", await register(99), "InvalidPublicKeyVersionException");
refused("register: key version 0", await register(0), "ValidationException");
refused("register: not from EC2", await register(current.version, { who: workload("ec2") }), "PlatformNotSupportedException");
refused("register: unknown product", await register(current.version, { ProductCode: "nosuchproductcode0000000" }), "InvalidProductCodeException");
refused("register: another region", await register(current.version, { from: away }), "InvalidRegionException");
refused("register: nonce of 256", await register(current.version, { Nonce: "n".repeat(256) }), "ValidationException");
