package market

import (
	"io"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var workloadVerbs = []Verb{
	lists(adminapi.ListWorkloads, Workloads),
}

// WorkloadRole is the role whose sessions workloads get unless another role is named. It is made when it is first
// needed.
const WorkloadRole = "meterd-workload"

// The life of a workload's credentials (AssumeRole, AWS STS API Reference).
const (
	minSession     = 15 * time.Minute
	maxSession     = 12 * time.Hour
	defaultSession = time.Hour
)

// CreateWorkloadCredentials adds a workload that is new, or gives it the role that is named, and mints credentials
// for it. A workload is known by its account, platform and resource id, and keeps its id for ever. A known workload
// that keeps its role needs no act: see [View.Credentials]. wall is the time by the wall clock, by which sessions
// expire.
func CreateWorkloadCredentials(in adminapi.WorkloadRequest, wall time.Time) Act[adminapi.WorkloadCredentials] {
	return func(p *Plan) (Find[adminapi.WorkloadCredentials], *metering.Error) {
		id, exists, err := p.addWorkload(&in.Workload)
		if err != nil {
			return nil, err
		}
		w := p.workloads.at(id)
		if exists && in.Role != "" { // the role of a workload may change
			role, err := p.workloadRole(w.Account, in.Role)
			if err != nil {
				return nil, err
			}
			if role != w.Role {
				w = p.workloads.change(id)
				w.Role = role
			}
		}
		out, err := p.credentials(&in, w, p.principals.at(w.Role), wall, p.random)
		p.Summary = credentialsSummary(&out)
		return answer(out), err
	}
}

// ErrUnsettled says that a workload is new or is to have another role, so that making its credentials needs an act.
var ErrUnsettled = conflict("resource_id: the workload is not known, or has another role")

// Credentials mints credentials of a known workload, with the role that it has, and returns a summary in words.
// Nothing in the marketplace changes. If the workload is new or is to have another role the error is [ErrUnsettled].
func (v *View) Credentials(in *adminapi.WorkloadRequest, wall time.Time, random io.Reader) (out adminapi.WorkloadCredentials, summary string, err *metering.Error) {
	n, _ := metering.ParseAccountID(in.AccountID)
	platform, _ := metering.ParsePlatform(in.Platform)
	account := v.AccountByID(n)
	if account == nil {
		return out, "", ErrUnsettled
	}
	w := v.WorkloadNamed(account.ID, platform, in.ResourceID)
	if w == nil || v.Catalog.Region(w.Region).Name != in.Region {
		return out, "", ErrUnsettled
	}
	role := &v.directory.principals[w.Role-1]
	if in.Role != "" && in.Role != role.Name {
		return out, "", ErrUnsettled
	}
	out, err = v.credentials(in, w, role, wall, random)
	return out, credentialsSummary(&out), err
}

func credentialsSummary(c *adminapi.WorkloadCredentials) string {
	return "create credentials " + c.AccessKeyID + " for workload " + c.AccountID + "/" + c.Platform + "/" + c.ResourceID
}

// credentials mints a session of the workload with the role.
func (s *State) credentials(in *adminapi.WorkloadRequest, w *metering.Workload, role *store.Principal, wall time.Time, random io.Reader) (out adminapi.WorkloadCredentials, err *metering.Error) {
	if in.DurationSeconds != 0 && (in.DurationSeconds < int64(minSession/time.Second) || in.DurationSeconds > int64(maxSession/time.Second)) {
		return out, invalid("duration_seconds: must be %d to %d, not %d", minSession/time.Second, maxSession/time.Second, in.DurationSeconds)
	}
	life := time.Duration(in.DurationSeconds) * time.Second
	if life == 0 && !s.cfg.Sandbox {
		life = defaultSession
	}
	if role.Deleted {
		return out, conflict("role: the role %s of the workload has been deleted: name another one", role.Name)
	}
	keyID, secret, bad := iam.NewAccessKey(random, iam.SessionKeyPrefix)
	if bad != nil {
		return out, metering.Errorf(metering.Internal, "%v", bad)
	}
	session := iam.Session{AccountID: in.AccountID, Role: role.Name, SessionName: sessionName(w.ResourceID), AccessKeyID: keyID, SecretAccessKey: secret,
		Platform: w.Platform.String(), ResourceID: w.ResourceID, Region: in.Region, RoleID: role.ID, WorkloadID: w.ID}
	if life != 0 {
		session.ExpiresAt = wall.Add(life).UnixMilli()
	}
	if bad := session.Validate(); bad != nil {
		return out, invalid("resource_id: %v", bad)
	}
	out = adminapi.WorkloadCredentials{Workload: in.Workload, AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: s.cfg.Sealer.SealSession(session)}
	out.Role = role.Name
	if life != 0 {
		out.ExpiresAt = new(time.UnixMilli(session.ExpiresAt).UTC())
	}
	return out, nil
}

// sessionName makes a valid session name from a resource id: the end of it, which says more than the start.
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

// addWorkload adds a workload. If the workload exists already, another role than the given one is no difference here:
// see sameRole.
func (p *Plan) addWorkload(in *adminapi.Workload) (id uint32, exists bool, err *metering.Error) {
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
		_, badRole = p.workloadRole(account.ID, in.Role) // does not add a role of another name
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
func (p *Plan) workloadRole(account uint32, name string) (uint32, *metering.Error) {
	if q := p.principal(account, iam.Role, name); q != nil {
		return q.ID, nil
	}
	if name != "" && name != WorkloadRole {
		return 0, p.absent(notFound("role: account %s has no role %.80q: meterd admin role list shows them", p.digits(account), name), name, "roles")
	}
	if q := p.principal(account, iam.Role, WorkloadRole); q != nil {
		return q.ID, nil
	}
	return p.putPrincipal(account, iam.Role, WorkloadRole, iam.Permissions{Allow: []string{metering.MeterUsage.Info().Action, metering.RegisterUsage.Info().Action}}), nil
}

// sameRole returns an error if in names a role and the existing workload has another one.
func (p *Plan) sameRole(id uint32, in *adminapi.Workload) *metering.Error {
	role := p.principals.at(p.workloads.at(id).Role)
	if in.Role != "" && in.Role != role.Name {
		return conflict("role: workload %s is there with the role %s, not %s: leave role out, or change it with: meterd admin workload create", in.ResourceID, role.Name, in.Role)
	}
	return nil
}

// Workloads lists the workloads, of one account if one is given.
func Workloads(of adminapi.AccountPaging) List[adminapi.Workload] {
	return listOfAccount(0, "account_id", of.AccountID, (*State).Workloads, func(w *metering.Workload) uint32 { return w.Account },
		func(v *View, w *metering.Workload) (adminapi.Workload, bool) {
			return adminapi.Workload{AccountID: v.digits(w.Account), Platform: w.Platform.String(), ResourceID: w.ResourceID,
				Region: v.Catalog.Region(w.Region).Name, Role: v.directory.principals[w.Role-1].Name}, true
		})
}
