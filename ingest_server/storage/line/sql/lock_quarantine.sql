-- Until the end of the transaction. In order, so that two workers cannot wait for each other in a circle; a gateway's
-- own row would do, but heartbeats update it.
SELECT pg_advisory_xact_lock(x'48454102'::int, g.gateway_id)
  FROM (SELECT unnest(%(gateways)s::int[]) AS gateway_id ORDER BY 1) g
