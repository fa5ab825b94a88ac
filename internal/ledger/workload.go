package ledger

import (
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
)

// WorkloadRole is the role whose sessions workloads get unless another one is named. It is made as needed.
const WorkloadRole = "meterd-workload"

// The life of a workload's credentials (AssumeRole, AWS STS API Reference).
const (
	minSession     = 15 * time.Minute
	maxSession     = 12 * time.Hour
	defaultSession = time.Hour
)

// CreateWorkloadCredentials mints credentials for a workload, and makes the workload if it is new. A workload is
// known by its account, platform and resource id, and keeps its number for ever.
func (l *Ledger) CreateWorkloadCredentials(op Operator, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
	var out adminapi.WorkloadCredentials
	err := l.act(op, func(p *plan) *metering.Error {
		life := time.Duration(in.DurationSeconds) * time.Second
		if in.DurationSeconds != 0 && (in.DurationSeconds < int64(minSession/time.Second) || in.DurationSeconds > int64(maxSession/time.Second)) {
			return invalid("duration_seconds: must be %d to %d, not %d", minSession/time.Second, maxSession/time.Second, in.DurationSeconds)
		}
		if life == 0 && !l.Sandbox() {
			life = defaultSession
		}
		id, exists, err := p.addWorkload(&in.Workload)
		if err != nil {
			return err
		}
		if exists && in.Role != "" { // the role of a workload may change
			w := p.workloads.at(id)
			role, err := p.workloadRole(w.Account, in.Role)
			if err != nil {
				return err
			}
			if role != w.Role {
				p.workloads.change(id).Role = role
			}
		}
		w := p.workloads.at(id)
		role := p.principals.at(w.Role)
		if role.Deleted {
			return conflict("role: the role %s of the workload has been deleted: name another one", role.Name)
		}
		keyID, secret, bad := iam.NewAccessKey(p.random, iam.SessionKeyPrefix)
		if bad != nil {
			return metering.Errorf(metering.Internal, "%v", bad)
		}
		s := iam.Session{AccountID: in.AccountID, Role: role.Name, SessionName: sessionName(w.ResourceID), AccessKeyID: keyID, SecretAccessKey: secret,
			Platform: w.Platform.String(), ResourceID: w.ResourceID, Region: p.regions.at(uint32(w.Region)).Name, RoleID: role.ID, WorkloadID: w.ID}
		if life != 0 {
			s.ExpiresAt = l.cfg.Now().Add(life).UnixMilli()
		}
		if bad := s.Validate(); bad != nil {
			return invalid("resource_id: %v", bad)
		}
		out = adminapi.WorkloadCredentials{Workload: in.Workload, AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: l.sealer.SealSession(s)}
		out.Role, out.Region = s.Role, s.Region
		if s.ExpiresAt != 0 {
			out.ExpiresAt = new(time.UnixMilli(s.ExpiresAt).UTC())
		}
		p.act = "create credentials " + keyID + " for workload " + in.AccountID + "/" + in.Platform + "/" + in.ResourceID
		return nil
	})
	if err != nil {
		return adminapi.WorkloadCredentials{}, err
	}
	return out, nil
}

// sessionName makes a resource id a valid name of a session: the end of it, which tells more than the start.
func sessionName(resource string) string {
	b := []byte(resource)
	for i, c := range b {
		if iam.ValidName(string(rune(c))) != nil {
			b[i] = '-'
		}
	}
	b = b[max(0, len(b)-64):]
	for len(b) < 2 {
		b = append(b, '-')
	}
	return string(b)
}

// addWorkload adds a workload. That it has another role than the one given is no difference to a workload that is
// there already: see sameRole.
func (p *plan) addWorkload(in *adminapi.Workload) (id uint32, exists bool, err *metering.Error) {
	var badPlatform, badRegion, badRole *metering.Error
	account, badAccount := p.holder(in.AccountID)
	platform, ok := metering.ParsePlatform(in.Platform)
	if !ok {
		badPlatform = invalid("platform: must be ec2, ecs, eks or agentcore, not %.40q", in.Platform)
	}
	region := p.region(in.Region)
	if region == nil {
		badRegion = p.absent(noRegion("region", in.Region), in.Region, "regions")
	}
	if badAccount == nil && in.Role != "" && in.Role != WorkloadRole {
		_, badRole = p.workloadRole(account.ID, in.Role) // adds none of another name
	}
	if err := p.flaws(badAccount, badPlatform, checkText("resource_id", in.ResourceID, 1, 128), badRegion, badRole); err != nil {
		return 0, false, err
	}
	if w := p.workload(account.ID, platform, in.ResourceID); w != nil {
		if w.Region != region.ID {
			return w.ID, true, conflict("region: workload %s runs in %s, not %s, and does not move: write the same region, or another resource_id",
				in.ResourceID, p.regions.at(uint32(w.Region)).Name, in.Region)
		}
		return w.ID, true, nil
	}
	role, err := p.workloadRole(account.ID, in.Role)
	if err != nil {
		return 0, false, err
	}
	id = p.workloads.next()
	p.workloads.add(metering.Workload{ID: id, Account: account.ID, Platform: platform, ResourceID: in.ResourceID, Region: region.ID, Role: role})
	p.workloadNamed[workloadName{account.ID, platform, in.ResourceID}] = id
	return id, false, nil
}

// workloadRole returns the role of the given name, [WorkloadRole] if it is empty.
func (p *plan) workloadRole(account uint32, name string) (uint32, *metering.Error) {
	if q := p.principal(account, iam.Role, name); q != nil {
		return q.ID, nil
	}
	if name != "" && name != WorkloadRole {
		return 0, p.absent(notFound("role: account %s has no role %.80q: meterd admin role list shows them", p.digits(account), name), name, "roles")
	}
	if q := p.principal(account, iam.Role, WorkloadRole); q != nil {
		return q.ID, nil
	}
	return p.putPrincipal(account, iam.Role, WorkloadRole, []string{metering.MeterUsage.Info().Action, metering.RegisterUsage.Info().Action}, nil), nil
}

// sameRole returns an error unless the workload that is there has the role that in names, if it names one.
func (p *plan) sameRole(id uint32, in *adminapi.Workload) *metering.Error {
	role := p.principals.at(p.workloads.at(id).Role)
	if in.Role != "" && in.Role != role.Name {
		return conflict("role: workload %s is there with the role %s, not %s: leave role out, or change it with: meterd admin workload create", in.ResourceID, role.Name, in.Role)
	}
	return nil
}

// Workloads lists the workloads, of one account if one is given.
func (l *Ledger) Workloads(op Operator, accountID, after string, limit int) (adminapi.Page[adminapi.Workload], error) {
	if err := checkFilter("account_id", accountID); err != nil {
		return adminapi.Page[adminapi.Workload]{}, err
	}
	return list(l, op, l.catalog.Workloads, after, limit, func(w *metering.Workload) (adminapi.Workload, bool) {
		if accountID != "" && l.number(w.Account) != accountID {
			return adminapi.Workload{}, false
		}
		return adminapi.Workload{AccountID: l.number(w.Account), Platform: w.Platform.String(), ResourceID: w.ResourceID,
			Region: l.catalog.Region(w.Region).Name, Role: l.directory.principals[w.Role-1].Name}, true
	})
}
