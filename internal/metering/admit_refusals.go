package metering

// Here the refusals of AdmitBatch, AdmitMeter and AdmitRegister have their words, so that those read as rules.

// inRecord says in a refusal that record i of UsageRecords is the reason.
func inRecord(i int, err *Error) *Error {
	err.Message = "UsageRecords[" + itoa(i) + "]: " + err.Message
	return err
}

// Refusals of BatchMeterUsage. i is the place of the record in UsageRecords, from 0.

func refuseProductAndLicence() *Error {
	return Errorf(InvalidProductCode, "The call has both ProductCode and LicenseArn. A LicenseArn implies its product: leave ProductCode out, or leave LicenseArn out for a product without concurrent agreements.")
}

func refuseNeitherProductNorLicence() *Error {
	return Errorf(InvalidProductCode, "The call has a record with neither ProductCode nor LicenseArn. Send LicenseArn with each record, or the ProductCode of a product without concurrent agreements.")
}

func refuseConcurrentProduct(code string) *Error {
	return Errorf(InvalidProductCode, "Product %q uses concurrent agreements: leave ProductCode out and send LicenseArn and CustomerAWSAccountId with each record.", code)
}

func refuseOthersProduct(code string) *Error {
	return Errorf(InvalidProductCode, "Product code %q does not exist or was not published by the calling account. Send a product code of your own, with the keys of the account that published it.", code)
}

func refuseSecondProduct(i int, product, earlier *Product) *Error {
	return Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn belongs to product %q, but an earlier record's to %q. Send the records of each product in a call of their own.", i, product.Code, earlier.Code)
}

func refuseMixedIdentifiers(i int) *Error {
	return Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] names its buyer in another way than the record before it. Use CustomerAWSAccountId in all records of a call, or CustomerIdentifier in all.", i)
}

func refuseLicenceAndIdentifier(i int) *Error {
	return Errorf(InvalidLicense, "UsageRecords[%d] has both LicenseArn and CustomerIdentifier. With LicenseArn, name the buyer by CustomerAWSAccountId.", i)
}

func refuseLicenceWithoutAccount(i int) *Error {
	return Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has a LicenseArn but no CustomerAWSAccountId. Send the account id of the buyer who holds the licence.", i)
}

func refuseMalformedLicence(i int, arn string) *Error {
	return Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn %.200q is not a licence ARN. Send the LicenseArn that ResolveCustomer returned, such as arn:aws:license-manager::111122223333:license:l-….", i, arn)
}

func refuseUnknownLicence(i int, arn string) *Error {
	return Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn %.200q is not a licence for a product of the calling account. Send the LicenseArn that ResolveCustomer returned.", i, arn)
}

func refuseOthersLicence(arn, accountID string) *Error {
	return Errorf(InvalidLicense, "the licence %.200q does not belong to account %.20s. Send the CustomerAWSAccountId that came with the LicenseArn.", arn, accountID)
}

func refuseBothIdentifiers(i int) *Error {
	return Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has both CustomerIdentifier and CustomerAWSAccountId. Send one of them.", i)
}

func refuseNoIdentifier(i int) *Error {
	return Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has neither CustomerAWSAccountId nor CustomerIdentifier. Send one of them.", i)
}

func refuseUnknownIdentifier(i int, identifier string) *Error {
	return Errorf(InvalidCustomerIdentifier, "UsageRecords[%d].CustomerIdentifier %q does not exist. Send the CustomerIdentifier that ResolveCustomer returned; nothing of this call was stored.", i, identifier)
}

func refuseSellersRegion(p *Product, r *RegionInfo) *Error {
	return Errorf(DisabledAPI, "Product %q is not metered in %s. Call a region that the product is enabled in.", p.Code, r.Name)
}

func refuseRecordsDimension(p *Product, key string) *Error {
	return Errorf(InvalidUsageDimension, "product %q has no dimension %q. Dimension names are case-sensitive API names; nothing of this call was stored.", p.Code, key)
}

func refuseBeforeLicence(ts, start Instant) *Error {
	return Errorf(InvalidLicense, "Timestamp %v lies before the licence became active at %v.", ts, start)
}

func refuseAfterLicence(ts, endingAt Instant) *Error {
	return Errorf(InvalidLicense, "Timestamp %v lies after the agreement began to end at %v. In the last hour only usage from before that is taken.", ts, endingAt)
}

// Refusals of every operation.

func refuseProductID(code string) *Error {
	return Errorf(InvalidProductCode, "%q is a product id, not a product code. Send the product code of the listing.", code)
}

func refuseBeforeSubscription(ts, start Instant) *Error {
	return Errorf(TimestampOutOfBounds, "Timestamp %v lies before the buyer's subscription began at %v.", ts, start)
}

// Refusals of what workloads call: MeterUsage and RegisterUsage.

func refuseNoProductCode() *Error {
	return constraint("productCode", "Member must not be null", "Send the product code of the listing.")
}

func refuseUnknownProduct(code string) *Error {
	return Errorf(InvalidProductCode, "Product code %q does not exist. Send the product code of the listing.", code)
}

func refuseSaaS(code string, op Operation) *Error {
	return Errorf(InvalidProductCode, "Product %q is SaaS, and %v is for containers and AMIs. Meter it by BatchMeterUsage with the seller's own keys.", code, op)
}

func refuseOtherRegion(kind Kind, op Operation, resourceID string, runs, signed *RegionInfo) *Error {
	return Errorf(kind, "%v must be called in the region that the resource runs in: %s runs in %s, but the call was signed for %s.", op, resourceID, runs.Name, signed.Name)
}

func refuseWorkloadsRegion(kind Kind, p *Product, r *RegionInfo) *Error {
	return Errorf(kind, "Product %q is not metered in %s. Run the software in a region that the product is enabled in.", p.Code, r.Name)
}

func refuseSuspended(a *Account) *Error {
	return Errorf(CustomerNotEntitled, "Account %s is suspended: its usage is not taken until the suspension ends.", FormatAccountID(a.AccountID))
}

func refuseNotSubscribed(a *Account, p *Product) *Error {
	return Errorf(CustomerNotEntitled, "Account %s has no active agreement for product %q. The buyer must subscribe before the software is started.", FormatAccountID(a.AccountID), p.Code)
}

func refuseBeforeAgreement(ts, start Instant) *Error {
	return Errorf(TimestampOutOfBounds, "Timestamp %v lies before the buyer's agreement began at %v, and in no earlier one. Send the time of the usage.", ts, start)
}

// NotOnWorkload is the refusal of MeterUsage and RegisterUsage for callers that are no workload.
func NotOnWorkload(op Operation) *Error {
	if op == RegisterUsage {
		return Errorf(PlatformNotSupported, "This operation can only be called from within an ECS task or an EKS pod. Call it with the credentials of the task's or pod's own role.")
	}
	return Errorf(CustomerNotEntitled, "%v must be called with the credentials of the resource that runs the software (EC2 instance role, ECS task role, EKS pod role or AgentCore execution role), not with keys of a user or a plain role.", op)
}

func refuseNoTimestamp() *Error {
	return constraint("timestamp", "Member must not be null", "Send the time of the usage as seconds since 1970-01-01T00:00:00Z.")
}

func refuseClientToken() *Error {
	return constraint("clientToken", "Member must have length between 1 and 64", "Send a UUID, or leave ClientToken out.")
}

func refuseNoClientToken() *Error {
	return constraint("clientToken", "Member must not be null", "From an AgentCore runtime each usage needs a ClientToken of its own: it is what tells a retry from new usage.")
}

func refuseAgentCoreTags() *Error {
	return Errorf(InvalidUsageAllocations, "UsageAllocations are not supported for usage from an AgentCore runtime. Leave them out.")
}

func refuseMeterDimension(p *Product, key string) *Error {
	return Errorf(InvalidUsageDimension, "Product %q has no dimension %q. UsageDimension is a case-sensitive API name.", p.Code, key)
}

func refuseNoKeyVersion() *Error {
	return constraint("publicKeyVersion", "Member must not be null", "Send the version of the public key that your software verifies with.")
}

func refuseKeyVersion() *Error {
	return constraint("publicKeyVersion", "Member must have value greater than or equal to 1", "Send the version of the public key that your software verifies with.")
}

func refuseNonce() *Error {
	return constraint("nonce", "Member must have length less than or equal to 255", "Send a shorter random string.")
}

func refuseUnknownKeyVersion(p *Product, version int32) *Error {
	return Errorf(InvalidPublicKeyVersion, "Product %q has no public key version %d. Send the version that was shown with the public key of the product.", p.Code, version)
}
