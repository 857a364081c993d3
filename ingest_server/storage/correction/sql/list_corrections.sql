SELECT c.number, c.kind, v.site, v.device, c.from_at::text, c.to_at::text, c.channel, c.unit, c.coefficients,
       c.was_profile, c.profile, c.withdraws, w.number AS withdrawn_by, c.made_at::text, c.made_by, c.reason, c.readings,
       c.done_at::text
  FROM iot_service.corrections c
  JOIN iot_service.iot_devices v USING (device_id)
  LEFT JOIN iot_service.corrections w ON w.withdraws = c.number
 WHERE (%(site)s::text IS NULL OR (v.site, v.device) = (%(site)s::text, %(device)s::text))
   AND (%(kind)s::text IS NULL OR c.kind = %(kind)s::text)
 ORDER BY c.number DESC
