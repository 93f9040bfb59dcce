-- A tenant may have several accounts at one partner; an event then goes to each of them as a copy of its own.
alter table connection drop constraint connection_one_per_system;
alter table connection add constraint connection_one_per_account unique (tenant, system, account);
